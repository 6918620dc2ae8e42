"""Words with tags, one to a line: CoNLL's columns, or a table (`.csv`, also in a `.zip`).

    columns   empty lines between sentences; the word is the first column, its tag the last; `-DOCSTART-` is passed over
    table     a header line; first column: the sentence, in its first row or in all; second: the word; last: its tag

Columns are split at blanks and tabs only, so words may hold other white space, and all rows have as many as the first.
Tags are O or `B-type`, `I-type` and so on, as BIO (IOB1, IOB2), BIOES and BILOU have them. In a unit of work a sentence
is one line of JSON: `[[line, word, tag], …]`; a word without a tag has an empty one, a row with another number of
columns says so in a fourth place, and the sentence is refused later.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.input.stream import InputStream

_TAG = re.compile(r"O|([BIESLU])[-_](.+)")
_DOCUMENT_START = "-DOCSTART-"
_BLANKS = re.compile(r"[ \t]+")
_MAX_TABLE = 1 << 30  # bytes: a table is read as a whole
_COLUMNS = 3  # of a table: sentence, word, tag; more between the last two are passed over

Row = tuple[int, str, str]  # number of the line, word, tag
_AnyRow = Row | tuple[int, str, str, str]  # and what is wrong with it


class LineError(ValueError):
    """What is wrong with a line of a sentence."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def read_tagged(stream: InputStream) -> Iterator[bytes]:
    """The sentences of a table or a file of columns, each as a line of JSON."""
    path = stream.path
    if path is not None and path.suffix == ".zip":
        return read_table(unzip_table(path), path)
    if path is not None and ".csv" in path.suffixes:
        return read_table(b"".join(stream.lines()), path)
    return cut_sentences(stream.lines())


def read_table(content: bytes, path: Path) -> Iterator[bytes]:
    """The sentences of a table, each as a line of JSON."""
    rows = csv.reader(io.StringIO(_decode(content), newline=""), strict=True)
    header = next(rows, [])
    if len(header) < _COLUMNS:
        found = f"its first line has {counted(len(header), 'column')}"
        raise UserError(f"{path}: {found}, where a table has {_COLUMNS} or more: sentence, word, …, tag")
    sentence: list[_AnyRow] = []
    before = ""  # the first cell of the row before
    for cells in _cells(rows, path):
        if cells and cells[0] and cells[0] != before and sentence:
            yield _line(sentence)
            sentence = []
        if cells:
            before = cells[0]
            sentence.append(_row(rows.line_num, "".join(cells[1:2]), cells, len(header)))
    if sentence:
        yield _line(sentence)


def _cells(rows: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise UserError(f"{path}: no table ({error}): check for an unclosed quotation mark") from error


def unzip_table(path: Path) -> bytes:
    """The one table in a `.zip` file.

    Raises:
        UserError: it cannot be read, or holds none or several.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv") and not name.startswith("__MACOSX/")]
            if len(names) == 1:
                size = archive.getinfo(names[0]).file_size
                if size > _MAX_TABLE:
                    raise UserError(
                        f"{path}: {names[0]} is {size:,} bytes, more than {_MAX_TABLE:,}: unpack and split it"
                    )
                with archive.open(names[0]) as table:
                    return table.read(size)  # without a number it decompresses all that is there first
    except (OSError, ValueError, NotImplementedError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    raise UserError(f"{path}: holds {len(names)} files that end in .csv, not one: unpack it and name the file")


def cut_sentences(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The sentences of a file of columns, each as a line of JSON."""
    sentence: list[_AnyRow] = []
    width = 0
    for number, raw in enumerate(lines, start=1):
        if not raw.strip() or is_document_start(raw):
            if sentence:
                yield _line(sentence)
            sentence = []
        else:
            columns = _columns(raw)
            width = width or len(columns)
            sentence.append(_row(number, columns[0], columns, width))
    if sentence:
        yield _line(sentence)


def is_document_start(line: bytes) -> bool:
    """Whether a line is CoNLL's mark between documents."""
    return line.startswith(_DOCUMENT_START.encode())


def is_tagged_table(header: bytes = b"", row: bytes = b"") -> bool:
    """Whether the first two lines of a table are those of words with tags: a table of texts has a header, too."""
    tag = row.decode(errors="replace").rstrip("\r\n").rpartition(",")[2].strip('"')
    return header.count(b",") + 1 >= _COLUMNS and bool(_TAG.fullmatch(tag))


def row_of_tag(line: bytes) -> tuple[int, str] | None:
    """Number of columns and tag of a row of columns, None if its last column is no tag."""
    columns = _columns(line)
    return (len(columns), columns[-1]) if len(columns) > 1 and _TAG.fullmatch(columns[-1]) else None


def _columns(raw: bytes) -> list[str]:
    line = raw.decode(errors="surrogateescape").rstrip("\r\n")  # bad bytes stay bad: `parse_sentence` tells
    return line.split("\t") if "\t" in line else _BLANKS.split(line.strip(" "))


def _row(number: int, word: str, columns: Sequence[str], width: int) -> _AnyRow:
    row = (number, word, columns[-1] if len(columns) > 1 else "")
    if len(columns) == width:
        return row
    return (*row, f"{counted(len(columns), 'column')}, where the first row has {width}")


def parse_sentence(line: str) -> list[Row]:
    """The rows of a sentence, from its line of JSON.

    Raises:
        LineError: a word is not UTF-8, or its row has too few or too many columns.
    """
    rows: list[Row] = []
    for number, word, tag, *problems in json.loads(line):
        if problems:
            raise LineError(number, problems[0])
        rows.append((number, word, tag))
    for number, word, _ in rows:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise LineError(number, "invalid UTF-8") from error
    return rows


def entities_of_tags(rows: Sequence[Row]) -> list[tuple[int, int, str]]:
    """First word, word after the last, and type of each entity.

    A tag that goes on where nothing began begins an entity, as IOB1 has it and as CoNLL's scorer reads it.
    """
    entities: list[tuple[int, int, str]] = []
    open_type = None  # of the entity that may go on
    for index, (number, _, tag) in enumerate(rows):
        match = _TAG.fullmatch(tag)
        if match is None:
            raise LineError(number, f"{tag!r} is no tag: O, or B-type and I-type" if tag else "no tag")
        mark, type = match.groups()
        if mark is None:
            open_type = None
            continue
        if mark in "IEL" and type == open_type:
            entities[-1] = (entities[-1][0], index + 1, type)
        else:
            entities.append((index, index + 1, type))
        open_type = None if mark in "ELSU" else type
    return entities


def _line(sentence: Sequence[_AnyRow]) -> bytes:
    return json.dumps(sentence).encode() + b"\n"


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # what spreadsheets write; every byte is a character there
