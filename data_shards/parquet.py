"""Parquet: rows of a text column, each as one line of JSON, so that a unit of rows is a run of lines like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_shards.errors import UserError

_ROWS = 1024  # held in memory at a time; decides no byte of a unit


def read_rows(path: Path, column: str) -> Iterator[bytes]:
    """The rows of a column in order: a JSON string or `null`, and a newline.

    Raises:
        UserError: the file is no Parquet file or is damaged, or it has no such column of strings.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_column(file.schema_arrow, path, column)
            for batch in file.iter_batches(_ROWS, columns=[column], use_threads=False):
                for value in batch.column(0).cast(pa.large_string()).cast(pa.large_binary()).to_pylist():
                    yield _line(value)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file, or a damaged one ({str(error).splitlines()[0]})") from error


def text_of_row(line: str) -> str:
    """The text of a row.

    Raises:
        ValueError: the row has none.
    """
    text = json.loads(line)
    if text is None:
        raise ValueError("null instead of text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("invalid UTF-8") from error
    return str(text)


def _line(value: bytes | None) -> bytes:
    text = None if value is None else value.decode(errors="surrogateescape")  # bad bytes stay bad: `text_of_row` tells
    return json.dumps(text, ensure_ascii=True).encode() + b"\n"


def _check_column(schema: Any, path: Path, column: str) -> None:
    import pyarrow as pa

    if column not in schema.names:
        raise UserError(f"{path}: no column {column!r}, only {', '.join(schema.names)}: name one with --text-field")
    found = schema.field(column).type
    values = found.value_type if pa.types.is_dictionary(found) else found
    if not (pa.types.is_string(values) or pa.types.is_large_string(values)):
        raise UserError(f"{path}: column {column!r} holds {found}, not strings: name another one with --text-field")
