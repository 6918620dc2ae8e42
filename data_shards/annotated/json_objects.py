"""Files of JSON or JSON lines, compressed or not → objects that know where they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_shards.errors import NotAnnotatedError, UserError
from data_shards.input.format import DESCRIPTIONS, AnnotatedFormat, TextFormat, format_of
from data_shards.input.json_lines import reason_of
from data_shards.input.json_values import JsonError, read_values
from data_shards.input.stream import InputStream, open_input

_INSTEAD: dict[TextFormat, str] = {
    "bio": "spe data convert makes JSON of it, spe predict finds entities in its words",
    "text": "spe predict finds entities and relations in text",
    "wikiextractor": "spe predict finds entities and relations in text",
    "parquet": "spe predict finds entities and relations in its texts",
    "csv": "spe predict finds entities and relations in its texts",
}


@dataclass(frozen=True)
class Item:
    """An object of a file.

    Args:
        where: file and line, or file and number of the item (counted from 1).
        value: its fields.
        format: format of a file that is not JSON.
    """

    where: str
    value: dict[str, Any]
    format: AnnotatedFormat | None = None


def read_items(path: Path, expected: str | None = None) -> Iterator[Item]:
    """The objects of a file (`-` is standard input): one per line, or the elements of one list, or objects over lines.

    Memory is that of one object.

    Args:
        path: the file.
        expected: which objects are read, for whoever gives something else; None: annotated data.

    Raises:
        UserError: there is no such file, or it holds something else; names the line or item.
    """
    with open_input(path) as stream:
        yield from items_of(stream, expected)


def items_of(stream: InputStream, expected: str | None = None) -> Iterator[Item]:
    """The same of a file that is open."""
    return _items_of_values(stream) if _check_is_json(stream, expected) == "json" else _items_of_lines(stream)


def texts_of(item: Item, name: str, expected: str) -> tuple[str, ...]:
    """A field that is a list of texts.

    Raises:
        UserError: it is missing, or something else; `expected` says which objects are read.
    """
    value = item.value.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        what = f"no field {name!r}" if value is None else f"{name} is not a list of texts"
        raise UserError(f"{item.where}: {what}: {expected}")
    return tuple(value)


def _check_is_json(stream: InputStream, expected: str | None) -> TextFormat:
    form = format_of(stream)
    if form in ("json", "jsonl"):
        return form
    index = 0
    while (line := stream.look(index)) and not line.strip():
        index += 1
    if not line:
        raise UserError(f"{stream.name} is empty: there is nothing to read")
    if form is None and line.lstrip().startswith((b"{", b"[")):
        return "json"
    found = form or "text"
    what = f"annotated data in JSON: {_INSTEAD[found]}" if expected is None else f"JSON: {expected}"
    raise NotAnnotatedError(f"{stream.name} is {DESCRIPTIONS[found]}, not {what}")


def _items_of_lines(stream: InputStream) -> Iterator[Item]:
    for number, raw in enumerate(stream.lines(), start=1):
        if raw.strip():
            where = f"{stream.name}:{number}"
            try:
                value = json.loads(raw.decode().rstrip())
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: {reason_of(error)}: fix it") from error
            yield _item(value, where, escapes=b"\\u" in raw)


def _items_of_values(stream: InputStream) -> Iterator[Item]:
    try:
        for number, value in enumerate(read_values(stream.blocks()), start=1):
            yield _item(value, f"{stream.name}: item {number}")
    except JsonError as error:
        raise UserError(f"{stream.name}: {error} (not JSON): fix it") from error


def _item(value: Any, where: str, *, escapes: bool = True) -> Item:
    """An object, checked for halves of surrogate pairs: only an escape can write them."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object with fields, found {json.dumps(value)[:40]}")
    if not escapes:
        return Item(where, value)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        place = next(_places_of_halves(value)).lstrip(".")
        raise UserError(f"{where}: {place} has {reason_of(error)}, which is no text: fix it") from error
    except RecursionError as error:
        raise UserError(f"{where}: {reason_of(error)}: fix it") from error
    return Item(where, value)


def _places_of_halves(value: Any, place: str = "") -> Iterator[str]:
    """Where in a value halves of surrogate pairs stand, such as `.tokens[0]`."""
    if isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            yield place
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _places_of_halves(name, "the name of a field")
            yield from _places_of_halves(part, f"{place}.{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _places_of_halves(part, f"{place}[{number}]")
