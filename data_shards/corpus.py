"""Readers: files of text → work units of raw lines → documents.

A work unit is a fixed run of whole documents of one input. It is decided here, before any parallelism, and owns its
shard's name: so a build gives the same bytes on one worker or a hundred, and a killed build can go on where it stopped.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar, cast, get_args

from data_shards.bio import LineError, cut_sentences, read_table, unzip_table
from data_shards.errors import UserError
from data_shards.files import explain_write_errors
from data_shards.gold_entities import Document, document_of_json, document_of_tags
from data_shards.json_lines import parse_object, text_of_object
from data_shards.offset_units import OffsetUnit
from data_shards.parquet import read_rows, text_of_row
from data_shards.wiki_extractor import cut_documents, text_of_document

TextFormat = Literal["text", "jsonl", "parquet", "wikiextractor", "bio"]

_FORMATS: dict[str, TextFormat] = {
    ".txt": "text", ".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet",
    ".bio": "bio", ".iob": "bio", ".iob2": "bio", ".conll": "bio", ".csv": "bio",
}  # fmt: skip
_WIKI_EXTRACTOR_NAME = re.compile(r"wiki_\d+")
_COMPRESSED = (".gz", ".bz2")
_UNIT_DOCUMENTS: dict[TextFormat, int] = {
    "text": 50_000, "jsonl": 5_000, "parquet": 5_000, "wikiextractor": 5_000, "bio": 50_000
}  # fmt: skip
_UNIT_BYTES = 64 << 20  # long documents must not make a unit that no worker can hold; depends on the input alone
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class Source:
    """One input: the name the person gave it, where its bytes are, and what its lines mean."""

    name: str
    path: Path
    format: TextFormat

    @property
    def size(self) -> int:
        """Size on disk, in bytes."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class WorkUnit:
    """Raw lines `first_line` (counted from 1) and following of one input, newlines included; a row counts as a line."""

    input_index: int
    unit_index: int
    first_line: int
    lines: bytes


@dataclass(frozen=True)
class BadLine:
    """A line (the first of a block, or a row) that is no document, and why."""

    line: int
    reason: str


def resolve_sources(inputs: Sequence[str], text_format: TextFormat | None, spool_folder: Path) -> tuple[Source, ...]:
    """Check the inputs and find out their formats; every file of a folder is an input, in the order of their paths.

    Standard input (`-`) is first copied into `spool_folder`.

    Raises:
        UserError: an input does not exist, is an empty folder, or does not say what it holds.
    """
    if not inputs:
        raise UserError("no input: name at least one file or folder of text, or - for standard input")
    if list(inputs).count("-") > 1:
        raise UserError("standard input (-) can be given only once")
    return tuple(source for name in inputs for source in _resolve_input(name, text_format, spool_folder))


def _resolve_input(name: str, text_format: TextFormat | None, spool_folder: Path) -> list[Source]:
    if name == "-":
        if text_format is None:
            raise UserError(f"standard input has no file ending to tell its format: {_add_format()}")
        return [Source(name, _spool_standard_input(spool_folder), text_format)]
    path = Path(name).absolute()
    if not path.exists():
        raise UserError(f"{name}: no such file")
    if not path.is_dir():
        return [Source(path.name, path, text_format or _format_of(path, name))]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file.relative_to(path))]
    if not files:
        raise UserError(f"{name} is a folder without files")
    return [
        Source(file.relative_to(path).as_posix(), file, text_format or _format_of(file, str(file))) for file in files
    ]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)  # as _SUCCESS beside Parquet files


def _format_of(path: Path, name: str) -> TextFormat:
    path = path.with_suffix("") if path.suffix in _COMPRESSED or path.suffixes[-2:] == [".csv", ".zip"] else path
    if _WIKI_EXTRACTOR_NAME.fullmatch(path.name):
        return "wikiextractor"
    if path.suffix not in _FORMATS:
        raise UserError(f"{name}: the ending {path.suffix!r} does not tell the format: {_add_format()}")
    return _FORMATS[path.suffix]


def _add_format() -> str:
    return f"add --format with one of {', '.join(get_args(TextFormat))}"


def _spool_standard_input(folder: Path) -> Path:
    path = folder / ".standard-input.tmp"
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while chunk := sys.stdin.buffer.read(1 << 20):
                file.write(chunk)
    return path


def read_units(
    source: Source, input_index: int, *, text_field: str, unit_documents: int | None = None
) -> Iterator[WorkUnit]:
    """The work units of one input, in order.

    Args:
        source: the input.
        input_index: its number in the build.
        text_field: column of a Parquet file that holds the text.
        unit_documents: documents a unit holds; 50,000 one-sentence lines or 5,000 others if not given.

    Raises:
        UserError: the file cannot be read to its end.
    """
    limit = unit_documents or _UNIT_DOCUMENTS[source.format]
    unit_index, documents, size = 0, [], 0
    first_line = next_line = 1
    for document in _read_documents(source, text_field):
        documents.append(document)
        size += len(document)
        next_line += document.count(b"\n")
        if len(documents) == limit or size >= _UNIT_BYTES:
            yield WorkUnit(input_index, unit_index, first_line, b"".join(documents))
            first_line, unit_index, documents, size = next_line, unit_index + 1, [], 0
    if documents:
        yield WorkUnit(input_index, unit_index, first_line, b"".join(documents))


def _read_documents(source: Source, text_field: str) -> Iterator[bytes]:
    if source.format == "parquet":
        return read_rows(source.path, text_field)
    if source.format == "bio":
        return _read_tagged(source.path)
    lines = read_lines(source.path)
    return cut_documents(lines) if source.format == "wikiextractor" else lines


def _read_tagged(path: Path) -> Iterator[bytes]:
    if path.suffix == ".zip":
        return read_table(unzip_table(path), path)
    lines = read_lines(path)
    return read_table(b"".join(lines), path) if ".csv" in path.suffixes else cut_sentences(lines)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, compressed (`.gz`, `.bz2`) or not, newlines included, without a byte order mark.

    Raises:
        UserError: it cannot be read to its end.
    """
    try:
        with _open(path) as file:
            for number, line in enumerate(file):
                yield line.removeprefix(_BYTE_ORDER_MARK) if number == 0 else line
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        raise UserError(f"{path}: damaged or truncated compressed file ({error}): fetch it again") from error


def _open(path: Path) -> BinaryIO:
    match path.suffix:
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".bz2":
            return cast(BinaryIO, bz2.open(path, "rb"))
    return path.open("rb")


def parse_documents(unit: WorkUnit, text_format: TextFormat, text_field: str) -> tuple[list[str], list[BadLine]]:
    """The texts of a unit's documents, and the lines that are none. Empty lines are neither."""
    return _parse(unit, text_format, lambda line: _text_of(line, text_format, text_field))


def check_lists_entities(source: Source) -> None:
    """Refuse an input of a format that has no place for entities.

    Raises:
        UserError: it is one.
    """
    if source.format not in ("jsonl", "bio"):
        raise UserError(f"{source.name}: {source.format} lists no entities: give JSON lines or a BIO file")


def parse_annotated(
    unit: WorkUnit, text_format: TextFormat, text_field: str, offsets: OffsetUnit = "characters"
) -> tuple[list[Document], list[BadLine]]:
    """The documents of a unit with the entities that they list, and the lines that are none.

    Args:
        unit: raw lines.
        text_format: of its input.
        text_field: field of a JSON object that holds the text.
        offsets: what the offsets of entities in such a text count.
    """
    if text_format == "bio":
        return _parse(unit, text_format, document_of_tags)
    assert text_format == "jsonl"  # `check_lists_entities`
    return _parse(unit, text_format, lambda line: document_of_json(line, text_field, offsets))


def _parse(
    unit: WorkUnit, text_format: TextFormat, parse_one: Callable[[str], _Parsed]
) -> tuple[list[_Parsed], list[BadLine]]:
    documents, bad_lines = [], []
    number = unit.first_line
    for raw in _cut_again(unit, text_format):
        if raw.strip():
            try:
                documents.append(parse_one(raw.decode()))
            except LineError as error:
                bad_lines.append(BadLine(error.line, str(error)))
            except (ValueError, RecursionError) as error:
                bad_lines.append(BadLine(number, reason_of(error)))
        number += raw.count(b"\n")
    return documents, bad_lines


def _cut_again(unit: WorkUnit, text_format: TextFormat) -> Iterator[bytes]:
    lines = io.BytesIO(unit.lines)
    return cut_documents(lines) if text_format == "wikiextractor" else lines


def _text_of(document: str, text_format: TextFormat, text_field: str) -> str:
    match text_format:
        case "text":
            return document.rstrip("\n")
        case "jsonl":
            return text_of_object(parse_object(document), text_field)
        case "parquet":
            return text_of_row(document)
        case "wikiextractor":
            return text_of_document(document, text_field)
        case "bio":
            return document_of_tags(document).text


def reason_of(error: Exception) -> str:
    """Why a line is no document, for people."""
    if isinstance(error, UnicodeDecodeError):
        return f"invalid UTF-8 at byte {error.start + 1}"
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair"
    if isinstance(error, json.JSONDecodeError):
        return f"invalid JSON: {error.msg} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "invalid JSON: nested too deeply"
    return str(error)
