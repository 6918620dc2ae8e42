"""What `spe predict` reads: raw text, a text on each line, or JSON lines with a text or with words."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from data_shards.corpus import read_lines, reason_of
from data_shards.errors import UserError
from data_shards.json_lines import parse_object

InputFormat = Literal["text", "jsonl"]

STANDARD_INPUT = "-"
_ENDINGS: dict[str, InputFormat] = {".txt": "text", ".jsonl": "jsonl", ".json": "jsonl"}
_COMPRESSED = (".gz", ".bz2")


@dataclass(frozen=True)
class Item:
    """A text to read, and what else its line holds.

    Args:
        text: raw, or words.
        fields: of the JSON object it came from, the text among them.
    """

    text: str | list[str]
    fields: dict[str, Any] = field(default_factory=dict)


def read_items(names: Sequence[str], input_format: InputFormat | None, text_field: str) -> Iterator[Item]:
    """The texts of some files, one after another.

    Args:
        names: of files, compressed (`.gz`, `.bz2`) or not; `-` is standard input.
        input_format: of all files; if not given, the ending tells, or where it does not, whether the first line is a
            JSON object.
        text_field: of a JSON object that holds the text; one without it must have `tokens`.

    Raises:
        UserError: a file cannot be read, or a line is malformed; it says which.
    """
    for name in names:
        if name != STANDARD_INPUT and not Path(name).is_file():
            raise UserError(f"{name}: {'this is a folder: name files' if Path(name).is_dir() else 'no such file'}")
    return chain.from_iterable(_items_of(name, input_format, text_field) for name in names)


def _items_of(name: str, input_format: InputFormat | None, text_field: str) -> Iterator[Item]:
    lines = iter(sys.stdin.buffer) if name == STANDARD_INPUT else read_lines(Path(name))
    source = "standard input" if name == STANDARD_INPUT else name
    form = input_format or _format_by_ending(name)
    for number, raw in enumerate(lines, start=1):
        form = form or ("jsonl" if _is_object(raw) else "text")
        if form == "jsonl" and not raw.strip():
            continue
        try:
            line = raw.decode()
            yield Item(line.rstrip("\r\n")) if form == "text" else _item_of_object(parse_object(line), text_field)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{source}, line {number}: {reason_of(error)}: mend or remove the line") from error


def _format_by_ending(name: str) -> InputFormat | None:
    path = Path(name)
    return _ENDINGS.get((path.with_suffix("") if path.suffix in _COMPRESSED else path).suffix)


def _is_object(raw: bytes) -> bool:
    try:
        parse_object(raw.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _item_of_object(document: dict[str, Any], text_field: str) -> Item:
    if text_field in document:
        text = document[text_field]
        if not isinstance(text, str):
            raise ValueError(f"field {text_field!r} is {type(text).__name__}, not a string")
        return Item(text, document)
    if "tokens" not in document:
        raise ValueError(f"neither a field {text_field!r} nor 'tokens' (name another with --text-field)")
    tokens = document["tokens"]
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ValueError("field 'tokens' is not a list of strings")
    return Item(tokens, document)
