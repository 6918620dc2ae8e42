"""Tables of texts (CSV and TSV with a header line): rows, each as one line of JSON, so that a unit is a run of lines.

A header says what its columns are, and with the name of the text's what stands between them: a comma, semicolon or tab.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.input.stream import InputStream

_DELIMITERS = ",;\t"
_CARRIAGE_RETURN = "a carriage return without a line feed"
_ROWS_END = r"end rows with line feeds (tr '\r' '\n' <OLD >NEW does it for files of old Macs)"
_MAX_CELL = 1 << 30  # characters; Python's own limit, 131,072, is less than a book


def read_csv_rows(stream: InputStream, column: str) -> Iterator[bytes]:
    """The rows below the header as JSON objects of strings, each with a newline; of a row that is none, why it is not.

    An empty line stays one: spreadsheets and editors leave them at the end.

    Raises:
        UserError: there is no such column, a name has several columns, or a quotation mark is not closed.
    """
    csv.field_size_limit(_MAX_CELL)
    lines = (line.decode(errors="surrogateescape") for line in stream.lines())  # bad bytes stay bad: `csv_row` tells
    if not (header := next(lines, "")):
        return
    if "\r" in header.rstrip("\r\n"):
        raise UserError(f"{stream.name}: no table ({_CARRIAGE_RETURN} in its header): {_ROWS_END}")
    choices = [next(csv.reader([header], delimiter=delimiter), []) for delimiter in _DELIMITERS]
    names = next((names for names in choices if column in names), max(choices, key=len))
    if names.count(column) != 1:
        found = f"{names.count(column)} columns are" if column in names else "no column is"
        raise UserError(
            f"{stream.name}: {found} named {column!r}, the header has {', '.join(names) or 'none'}: name one with "
            "--text-field, or say that its format is text"
        )
    for name, count in Counter(names).items():
        if name and count > 1:  # spreadsheets write empty columns without a name
            raise UserError(f"{stream.name}: {count} columns are named {name!r}: give each column its own name")
    rows = csv.reader(lines, delimiter=_DELIMITERS[choices.index(names)], strict=True)
    try:
        for cells in rows:
            row: dict[str, str] | str = dict(zip(names, cells, strict=False))
            if len(cells) != len(names):
                found = counted(len(cells), "cell")
                row = f"{found}, where the header has {len(names)}: quote a cell that holds the separator"
            yield (json.dumps(row).encode() if cells else b"") + b"\n"
    except csv.Error as error:
        if "new-line" in str(error):
            place = f"{_CARRIAGE_RETURN} outside quotation marks in line {rows.line_num + 1}"
            raise UserError(f"{stream.name}: no table ({place}): quote that cell, and {_ROWS_END}") from error
        raise UserError(f"{stream.name}: no table ({error}): check for an unclosed quotation mark") from error


def csv_row(line: str) -> dict[str, Any]:
    """The row that a line holds; a ValueError if it is none."""
    row = json.loads(line)
    if isinstance(row, str):
        raise ValueError(row)
    try:
        "".join(row.values()).encode()
    except UnicodeEncodeError as error:
        raise ValueError("invalid UTF-8") from error
    return dict(row)
