"""Which format an input is in: its first lines that are not empty tell or, where they say nothing, its ending."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from data_shards.input.bio import is_document_start, is_tagged_table, row_of_tag
from data_shards.input.json_lines import parse_object
from data_shards.input.stream import COMPRESSED, InputStream
from data_shards.input.wiki_extractor import is_document_line, is_document_object

TextFormat = Literal["text", "jsonl", "json", "parquet", "wikiextractor", "bio", "csv"]
AnnotatedFormat = Literal[
    "unified", "spert", "dygie", "spe", "docred", "trex", "characters", "label_studio", "gliner", "glirel", "triples",
    "brat", "conll", "spacy",
]  # fmt: skip

DESCRIPTIONS: dict[TextFormat, str] = {
    "text": "lines of text",
    "jsonl": "JSON lines",
    "json": "JSON",
    "parquet": "a Parquet file",
    "wikiextractor": "text from WikiExtractor",
    "bio": "words with tags in columns (BIO)",
    "csv": "a table with a header (CSV or TSV)",
}

# In this order: files of the SPE program may hold `tokens` too, and files with `tokens` the `text` that they were.
ANNOTATED_FIELDS: tuple[tuple[AnnotatedFormat, frozenset[str]], ...] = (
    ("docred", frozenset({"sents", "vertexSet"})),
    ("dygie", frozenset({"sentences", "ner"})),
    ("spe", frozenset({"entityMentions"})),
    ("unified", frozenset({"tokens", "entities"})),
    ("trex", frozenset({"text", "entities", "triples"})),
    ("label_studio", frozenset({"data", "annotations"})),
    ("label_studio", frozenset({"data", "completions"})),
    ("glirel", frozenset({"tokenized_text", "ner", "relations"})),
    ("gliner", frozenset({"tokenized_text", "ner"})),
    ("triples", frozenset({"text", "triple_list"})),
    ("triples", frozenset({"text", "relation_list"})),
    ("characters", frozenset({"text", "entities"})),
    ("characters", frozenset({"text", "spans"})),
    ("characters", frozenset({"text", "label"})),
)

_ENDINGS: dict[str, TextFormat] = {
    ".txt": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet",
    ".bio": "bio", ".iob": "bio", ".iob2": "bio", ".conll": "bio", ".csv": "csv", ".tsv": "csv",
}  # fmt: skip
_WIKI_EXTRACTOR_NAME = re.compile(r"wiki_\d+")
_OBJECT = re.compile(rb'\s*\{\s*("(?:[^"\\]|\\.)*"\s*:|\}|$)')
_LIST = re.compile(rb'\s*\[\s*(\{\s*("|\})|\]\s*$)')
_BEGUN_LIST = re.compile(rb"\s*\[\s*(\{\s*)?")
_LINES_OF_BEGUN_LIST = 3  # `[`, `{`, and a field
_ROWS = 20  # that must look like words with tags


def annotated_format(fields: Collection[str]) -> AnnotatedFormat | None:
    """The format of annotated data that an object with these fields is in; SpERT's is found as `unified`."""
    given = set(fields)
    return next((name for name, marks in ANNOTATED_FIELDS if marks <= given), None)


def format_of(stream: InputStream) -> TextFormat | None:
    """The format of an input; None if neither its first lines nor its ending tell.

    Lines of text look like nothing else, so only an ending tells them.
    """
    ending = _format_of_ending(stream.path)
    if ending in ("wikiextractor", "bio"):  # WikiExtractor's name is its own
        return ending
    if ending == "csv" and is_tagged_table(*islice(_filled(stream), 2)):
        return "bio"
    found = _format_of_lines(stream)
    if found is None and ending == "jsonl" and stream.path and ".json" in stream.path.suffixes:
        return "json" if next(_filled(stream), b"").lstrip().startswith(b"[") else ending
    return found or ending


def _format_of_ending(path: Path | None) -> TextFormat | None:
    if path is None:
        return None
    if path.suffixes[-2:] == [".csv", ".zip"]:
        return "bio"
    path = path.with_suffix("") if path.suffix in COMPRESSED else path
    return "wikiextractor" if _WIKI_EXTRACTOR_NAME.fullmatch(path.name) else _ENDINGS.get(path.suffix.lower())


def _format_of_lines(stream: InputStream) -> TextFormat | None:
    lines = _filled(stream)
    first = next(lines, b"")
    if first.startswith((b"PAR1", b"PARE")):
        return "parquet"
    if is_document_line(first):
        return "wikiextractor"
    if first.lstrip().startswith(b"{"):
        return _format_of_object(first, lines)
    if first.lstrip().startswith(b"["):
        return "json" if _begins_list(first, lines) else None
    return "bio" if _are_tagged(first, lines) else None


def _filled(stream: InputStream) -> Iterator[bytes]:
    """The lines that are not empty, read one at a time: a line that is not needed must not be waited for."""
    index = 0
    while line := stream.look(index):
        if line.strip():
            yield line
        index += 1


def _format_of_object(first: bytes, lines: Iterator[bytes]) -> TextFormat | None:
    try:
        return "wikiextractor" if is_document_object(parse_object(first.decode())) else "jsonl"
    except (ValueError, RecursionError) as error:
        if not _OBJECT.match(first):
            return None
        # An object over several lines: the first one ends before it does, and the next one goes on with a field.
        cut_off = isinstance(error, json.JSONDecodeError) and error.pos >= len(first.decode().rstrip())
        goes_on = cut_off and first.endswith(b"\n") and not next(lines, b"{").lstrip().startswith(b"{")
        return "json" if goes_on else "jsonl"


def _begins_list(first: bytes, lines: Iterator[bytes]) -> bool:
    """Whether a list of objects begins here: `[1] Smith` and `[[link]]` are text."""
    start = first
    for _ in range(_LINES_OF_BEGUN_LIST):
        if not _BEGUN_LIST.fullmatch(start):
            break
        start += next(lines, b"")
    return bool(_LIST.match(start))


def _are_tagged(first: bytes, lines: Iterator[bytes]) -> bool:
    """Whether the first rows are words with tags, one of them O: a line of text may end in `B-12` too."""
    if is_document_start(first):
        return True
    rows: list[tuple[int, str]] = []
    row = row_of_tag(first)
    while row is not None and row[0] == (rows or [row])[0][0] and len(rows) < _ROWS:
        rows.append(row)
        line = next(lines, b"")
        if not line:
            return len(rows) > 1 and any(tag == "O" for _, tag in rows)
        row = row_of_tag(line)
    return len(rows) == _ROWS and any(tag == "O" for _, tag in rows)


def name_fields(fields: dict[str, Any], most: int = 8) -> str:
    """The first fields of an object, for people."""
    return ", ".join(list(fields)[:most]) or "none"
