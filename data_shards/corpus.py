"""Readers: files of text → work units of raw lines → documents.

A work unit is a fixed run of lines of one input. It is decided here, before any parallelism, and owns its shard's name:
so a build gives the same bytes on one worker or a hundred, and a killed build can go on where it stopped.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from data_shards.errors import UserError
from data_shards.files import explain_write_errors

TextFormat = Literal["text", "jsonl"]

_FORMATS: dict[str, TextFormat] = {".txt": "text", ".jsonl": "jsonl", ".json": "jsonl"}
_UNIT_LINES: dict[TextFormat, int] = {"text": 50_000, "jsonl": 5_000}
_UNIT_BYTES = 64 << 20  # long documents must not make a unit that no worker can hold; depends on the input alone
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
    """Raw lines `first_line` (counted from 1) and following of one input, newlines included."""

    input_index: int
    unit_index: int
    first_line: int
    lines: bytes


@dataclass(frozen=True)
class BadLine:
    """A line that is no document, and why."""

    line: int
    reason: str


def resolve_sources(inputs: Sequence[str], text_format: TextFormat | None, spool_folder: Path) -> tuple[Source, ...]:
    """Check the inputs and find out their formats; standard input (`-`) is first copied into `spool_folder`.

    Raises:
        UserError: an input does not exist, is no file, or does not say what it holds.
    """
    if not inputs:
        raise UserError("no input: name at least one .txt or .jsonl file (or .gz of one), or - for standard input")
    if list(inputs).count("-") > 1:
        raise UserError("standard input (-) can be given only once")
    return tuple(_resolve_source(name, text_format, spool_folder) for name in inputs)


def _resolve_source(name: str, text_format: TextFormat | None, spool_folder: Path) -> Source:
    if name == "-":
        if text_format is None:
            raise UserError("standard input has no file ending to tell its format: add --format text or --format jsonl")
        return Source(name, _spool_standard_input(spool_folder), text_format)
    path = Path(name).absolute()
    if path.is_dir():
        raise UserError(f"{name} is a folder: name the files in it, for example {name.rstrip('/')}/*.jsonl")
    if not path.exists():
        raise UserError(f"{name}: no such file")
    ending = Path(path.name.removesuffix(".gz")).suffix
    detected = text_format or _FORMATS.get(ending)
    if detected is None:
        raise UserError(f"{name}: the ending {ending!r} does not tell the format: add --format text or --format jsonl")
    return Source(path.name, path, detected)


def _spool_standard_input(folder: Path) -> Path:
    path = folder / ".standard-input.tmp"
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while chunk := sys.stdin.buffer.read(1 << 20):
                file.write(chunk)
    return path


def read_units(source: Source, input_index: int, unit_lines: int | None = None) -> Iterator[WorkUnit]:
    """The work units of one input, in order.

    Args:
        source: the input.
        input_index: its number in the build.
        unit_lines: lines (documents) a unit holds; 5,000 for JSONL and 50,000 for one-sentence lines if not given.

    Raises:
        UserError: the file cannot be read to its end.
    """
    limit = unit_lines or _UNIT_LINES[source.format]
    first_line, unit_index, lines, size = 1, 0, [], 0
    for line in _read_lines(source):
        lines.append(line)
        size += len(line)
        if len(lines) == limit or size >= _UNIT_BYTES:
            yield WorkUnit(input_index, unit_index, first_line, b"".join(lines))
            first_line, unit_index, lines, size = first_line + len(lines), unit_index + 1, [], 0
    if lines:
        yield WorkUnit(input_index, unit_index, first_line, b"".join(lines))


def _read_lines(source: Source) -> Iterator[bytes]:
    try:
        with _open(source.path) as file:
            for number, line in enumerate(file):
                yield line.removeprefix(_BYTE_ORDER_MARK) if number == 0 else line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{source.path}: damaged or truncated gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise UserError(f"{source.path}: cannot be read ({error.strerror or error})") from error


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def parse_documents(unit: WorkUnit, text_format: TextFormat, text_field: str) -> tuple[list[str], list[BadLine]]:
    """The documents of a unit, and the lines that are none. Empty lines are neither."""
    documents, bad_lines = [], []
    for number, line in enumerate(unit.lines.split(b"\n"), start=unit.first_line):
        if not line.strip():
            continue
        try:
            text = line.decode()
            documents.append(text if text_format == "text" else _text_of_object(text, text_field))
        except (ValueError, RecursionError) as error:
            bad_lines.append(BadLine(number, _reason(error)))
    return documents, bad_lines


def _text_of_object(line: str, text_field: str) -> str:
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError(f"not a JSON object but {type(document).__name__}")
    if text_field not in document:
        raise ValueError(f"no field {text_field!r}")
    text = document[text_field]
    if not isinstance(text, str):
        raise ValueError(f"field {text_field!r} is {type(text).__name__}, not a string")
    text.encode()  # half a surrogate pair can be written in JSON, but is not text
    return text


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"invalid UTF-8 at byte {error.start + 1}"
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair"
    if isinstance(error, json.JSONDecodeError):
        return f"invalid JSON: {error.msg} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "invalid JSON: nested too deeply"
    return str(error)
