"""Readers: files of text → work units of raw lines → documents.

A work unit is a fixed run of whole documents of one input. It is decided here, before any parallelism, and owns its
shard's name: so a build gives the same bytes on one worker or a hundred, and a killed build can go on where it stopped.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from data_shards.annotated.conll import document_of_tags
from data_shards.annotated.detect import find_format
from data_shards.annotated.document import Document
from data_shards.annotated.json_objects import Item
from data_shards.annotated.offset_trial import OffsetTrial
from data_shards.annotated.read import readers
from data_shards.annotated.read_report import ReadReport
from data_shards.errors import UserError
from data_shards.files import explain_write_errors
from data_shards.input.bio import LineError, read_tagged
from data_shards.input.csv_rows import csv_row, read_csv_rows
from data_shards.input.format import DESCRIPTIONS, TextFormat, annotated_format, format_of, name_fields
from data_shards.input.json_lines import parse_object, reason_of, text_of_object
from data_shards.input.json_values import JsonError, read_values
from data_shards.input.parquet import read_rows, text_of_row
from data_shards.input.stream import STANDARD_INPUT, InputStream, check_is_file, open_input, standard_input
from data_shards.input.wiki_extractor import cut_documents, text_of_document
from data_shards.text.offset_units import OffsetUnit

_UNIT_DOCUMENTS: dict[TextFormat, int] = {
    "text": 50_000, "jsonl": 5_000, "json": 5_000, "parquet": 5_000, "wikiextractor": 5_000, "bio": 50_000, "csv": 5_000
}  # fmt: skip
UNIT_BYTES = 64 << 20  # long documents must not make a unit that no worker can hold; depends on the input alone
_RELATIONS = {"relations", "relationMentions", "labels"}  # fields of all formats
_THIS_LINE = "this line"  # stands for a place that is known later
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

    @property
    def label(self) -> str:
        """The name in messages."""
        return "standard input" if self.name == STANDARD_INPUT else self.name

    def open(self) -> AbstractContextManager[InputStream]:
        """The bytes, to be read once."""
        return open_input(self.name, self.path) if self.name == STANDARD_INPUT else open_input(self.path)


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


def resolve_sources(
    inputs: Sequence[str], text_format: TextFormat | None, spool_folder: Path, *, default: TextFormat | None = None
) -> tuple[Source, ...]:
    """Check the inputs and find out their formats; every file of a folder is an input, in the order of their paths.

    Args:
        inputs: files and folders; standard input (`-`) is first copied into `spool_folder`.
        text_format: of all of them.
        spool_folder: see inputs.
        default: what a file holds that does not say what it holds.

    Raises:
        UserError: an input does not exist, is an empty folder, or does not say what it holds.
    """
    if not inputs:
        raise UserError("no input: name at least one file or folder of text, or - for standard input")
    if list(inputs).count(STANDARD_INPUT) > 1:
        raise UserError("standard input (-) can be given only once")
    return tuple(source for name in inputs for source in _resolve_input(name, text_format, spool_folder, default))


def _resolve_input(
    name: str, text_format: TextFormat | None, spool_folder: Path, default: TextFormat | None
) -> list[Source]:
    if name == STANDARD_INPUT:
        path = _spool_standard_input(spool_folder)
        if not path.stat().st_size:
            raise UserError("standard input is empty: give it text, or name files")
        return [Source(name, path, text_format or _detect(name, path) or "text")]
    path = Path(name).absolute()
    if not path.is_dir():
        check_is_file(name)
        if not path.is_file():
            raise UserError(f"{name} is a pipe or device, which can be read only once: give it as standard input (-)")
        return [Source(path.name, path, text_format or _detect_file(name, default))]
    return [
        Source(file.relative_to(path).as_posix(), file, text_format or _detect_file(str(file), default))
        for file in files_of_folder(path, name)
    ]


def files_of_folder(folder: Path, name: str) -> list[Path]:
    """The files in a folder and below that are not hidden, by their paths; a UserError if there are none."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not _is_hidden(file.relative_to(folder))]
    if not files:
        raise UserError(f"{name} is a folder without files")
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)  # as _SUCCESS beside Parquet files


def _detect(name: str, copy: Path | None = None) -> TextFormat | None:
    with open_input(name, copy) as stream:
        return format_of(stream)


def _detect_file(name: str, default: TextFormat | None) -> TextFormat:
    found = _detect(name) or default
    if found is None:
        formats = ", ".join(get_args(TextFormat))
        raise UserError(
            f"{name}: cannot recognise the format from its first line or its ending {Path(name).suffix!r}: "
            f"add --format with one of {formats}"
        )
    return found


def _spool_standard_input(folder: Path) -> Path:
    path = folder / ".standard-input.tmp"
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(standard_input(), file)
    return path


def read_units(
    source: Source, input_index: int, *, text_field: str, unit_documents: int | None = None
) -> Iterator[WorkUnit]:
    """The work units of one input, in order.

    Args:
        source: the input.
        input_index: its number in the build.
        text_field: column of a table (Parquet, CSV, TSV) that holds the text.
        unit_documents: documents a unit holds; 50,000 one-sentence lines or 5,000 others if not given.

    Raises:
        UserError: the file cannot be read to its end.
    """
    limit = unit_documents or _UNIT_DOCUMENTS[source.format]
    unit_index, documents, size = 0, [], 0
    first_line = next_line = 1
    with source.open() as stream:
        for document in read_documents(stream, source.format, text_field):
            documents.append(document)
            size += len(document)
            next_line += document.count(b"\n")
            if len(documents) == limit or size >= UNIT_BYTES:
                yield WorkUnit(input_index, unit_index, first_line, b"".join(documents))
                first_line, unit_index, documents, size = next_line, unit_index + 1, [], 0
    if documents:
        yield WorkUnit(input_index, unit_index, first_line, b"".join(documents))


def read_documents(stream: InputStream, text_format: TextFormat, text_field: str) -> Iterator[bytes]:
    """The documents of an input as they stand there: lines, blocks of lines, or what stands for them in a line of JSON.

    Raises:
        UserError: the input cannot be read to its end.
    """
    match text_format:
        case "parquet":
            return read_rows(_path_of(stream), text_field)
        case "bio":
            return read_tagged(stream)
        case "csv":
            return read_csv_rows(stream, text_field)
        case "wikiextractor":
            return cut_documents(stream.lines())
        case "json":
            return _read_json(stream)
    return stream.lines()


def _path_of(stream: InputStream) -> Path:
    if stream.path is None:
        raise UserError("standard input is a Parquet file, which cannot be read from a pipe: name the file")
    return stream.path


def _read_json(stream: InputStream) -> Iterator[bytes]:
    try:
        for value in read_values(stream.blocks()):
            yield json.dumps(value).encode() + b"\n"
    except JsonError as error:
        raise UserError(f"{stream.name}: {error} (not JSON): fix the file") from error


def parse_documents(unit: WorkUnit, text_format: TextFormat, text_field: str) -> tuple[list[str], list[BadLine]]:
    """The texts of a unit's documents, and the lines that are none. Empty lines are neither."""
    return _parse(unit, text_format, lambda line: _text_of(line, text_format, text_field))


def check_has_text(source: Source, text_field: str) -> None:
    """Refuse annotated data without text, and say what takes it."""
    fields = _first_object(source, text_field)
    if text_field in fields:
        return
    form = annotated_format(fields)
    if form not in (None, "characters"):
        raise UserError(
            f"{source.label} is annotated data of format {form} (fields {name_fields(fields)}) without a field "
            f"{text_field!r}: spe shards build --gold-entities takes its words and entities"
        )


def check_lists_entities(source: Source, text_field: str = "text") -> None:
    """Refuse an input that has no place for entities, or whose first object is another program's."""
    if source.format not in ("jsonl", "json", "bio"):
        raise UserError(
            f"{source.label} is {DESCRIPTIONS[source.format]}, which has no entities: give JSON with entities, or "
            "words with tags in columns (BIO); spe shards build --ner finds entities in text"
        )
    find_format(_item(_first_object(source, text_field), text_field, source.label))


def _first_object(source: Source, text_field: str) -> dict[str, Any]:
    """The first object of JSON; without fields if it is none."""
    if source.format not in ("jsonl", "json"):
        return {}
    with source.open() as stream:
        for raw in read_documents(stream, source.format, text_field):
            if raw.strip():
                try:
                    return parse_object(raw.decode())
                except (ValueError, RecursionError):
                    break  # a bad line, counted later
    return {}


def parse_annotated(
    unit: WorkUnit,
    text_format: TextFormat,
    text_field: str,
    offsets: OffsetUnit = "characters",
    language: str = "en",
    report: ReadReport | None = None,
) -> tuple[list[Document], list[BadLine]]:
    """The documents of a unit with the entities that they list, and the lines that are none.

    Each object of JSON may be in any format of annotated data.

    Args:
        unit: unit of the input.
        text_format: format of the input.
        text_field: field that holds the text.
        offsets: what offsets in a text count.
        language: whose rules cut a text.
        report: counts what is found. Without one, relations are not read: what is wrong with them spoils no line.
    """
    if text_format == "bio":
        return _parse(unit, text_format, document_of_tags)
    assert text_format in ("jsonl", "json")  # `check_lists_entities`
    read, with_relations = readers(offsets, OffsetTrial(offsets, language)), report is not None
    found = report or ReadReport(Path(), "unknown")

    def parse_one(line: str) -> Document | None:
        fields = parse_object(line)
        for name in () if with_relations else _RELATIONS & fields.keys():
            del fields[name]
        item = _item(fields, text_field, _THIS_LINE)
        form = find_format(item)
        if form is None:
            raise ValueError(f"no fields of annotated data, such as 'entities', only {name_fields(item.value)}")
        found.format = form  # for errors
        return read[form](item, 0, found)

    documents, bad_lines = _parse(unit, text_format, parse_one)
    return [document for document in documents if document is not None], bad_lines


def _item(fields: dict[str, Any], text_field: str, where: str) -> Item:
    """An object whose text is in the field that formats have it in."""
    if text_field != "text":
        fields = {name: value for name, value in fields.items() if name != "text"}
        if text_field in fields:
            fields["text"] = fields.pop(text_field)
    return Item(where, fields)


def _parse(
    unit: WorkUnit, text_format: TextFormat, parse_one: Callable[[str], _Parsed]
) -> tuple[list[_Parsed], list[BadLine]]:
    documents, bad_lines = [], []
    number = unit.first_line
    for raw in cut_again(unit.lines, text_format):
        if raw.strip():
            try:
                documents.append(parse_one(raw.decode()))
            except UserError as error:
                bad_lines.append(BadLine(number, str(error).removeprefix(f"{_THIS_LINE}: ")))
            except LineError as error:
                bad_lines.append(BadLine(error.line, str(error)))
            except (ValueError, RecursionError) as error:
                bad_lines.append(BadLine(number, reason_of(error)))
        number += raw.count(b"\n")
    return documents, bad_lines


def cut_again(lines: bytes, text_format: TextFormat) -> Iterator[bytes]:
    """The documents of a unit, as `read_documents` gave them."""
    stream = io.BytesIO(lines)
    return cut_documents(stream) if text_format == "wikiextractor" else stream


def _text_of(document: str, text_format: TextFormat, text_field: str) -> str:
    match text_format:
        case "text":
            return document.rstrip("\n")
        case "jsonl" | "json":
            return text_of_object(parse_object(document), text_field)
        case "parquet":
            return text_of_row(document)
        case "wikiextractor":
            return text_of_document(document, text_field)
        case "bio":
            return document_of_tags(document).text
        case "csv":
            return str(csv_row(document)[text_field])
