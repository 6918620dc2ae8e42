"""Parquet: rows of a text column, each as one line of JSON, so that a unit of rows is a run of lines like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_shards.errors import UserError

_ROWS = 1024  # held in memory at a time; decides no byte of a unit


def read_rows(path: Path, column: str) -> Iterator[bytes]:
    """The rows of a column in order: a JSON string or `null`, and a newline.

    Raises:
        UserError: the file is no Parquet file or is damaged, or it has no such column of strings.
    """
    with _opened(path, column) as file:
        for batch in file.iter_batches(_ROWS, columns=[column], use_threads=False):
            for text in _texts(batch.column(0)):
                yield _line(text)


def read_objects(path: Path, column: str) -> Iterator[bytes]:
    """The rows as JSON objects, each with a newline: the text, and what other columns of strings or numbers hold."""
    with _opened(path, column) as file:
        names = [field.name for field in file.schema_arrow if field.name == column or _is_plain(field.type)]
        for batch in file.iter_batches(_ROWS, columns=names, use_threads=False):
            texts = _texts(batch.column(column))
            for row, text in zip(batch.drop_columns([column]).to_pylist(), texts, strict=True):
                yield _line({**row, column: text})


def count_rows(path: Path, column: str) -> int:
    """How many rows a file has."""
    with _opened(path, column) as file:
        return file.metadata.num_rows


def text_of_row(line: str) -> str:
    """The text of a row; a ValueError if it has none."""
    text = json.loads(line)
    if text is None:
        raise ValueError("null instead of text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("invalid UTF-8") from error
    return str(text)


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"


def _texts(column: Any) -> Iterator[str | None]:
    import pyarrow as pa

    for value in column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist():
        # Bad bytes stay bad: `text_of_row` tells.
        yield None if value is None else value.decode(errors="surrogateescape")


@contextmanager
def _opened(path: Path, column: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_column(file.schema_arrow, path, column)
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        if "crypt" in reason:  # encrypted footer, no decryption properties …
            raise UserError(f"{path}: an encrypted Parquet file: write it without encryption") from error
        raise UserError(f"{path}: not a Parquet file, or a damaged one ({reason}): write it again") from error


def _check_column(schema: Any, path: Path, column: str) -> None:
    times = schema.names.count(column)
    if times == 0:
        raise UserError(
            f"{path}: no column {column!r}, only {', '.join(schema.names) or 'none'}: name one with --text-field"
        )
    if times > 1:
        raise UserError(f"{path}: {times} columns are named {column!r}: rename all but one")
    found = schema.field(column).type
    if not _is_text(found):
        raise UserError(
            f"{path}: column {column!r} holds {found}, not strings: convert it to strings, or name another column "
            "with --text-field"
        )


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(is_kind(values) for is_kind in kinds)  # nulls: the part of a data set in which no row has a text


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    return _is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
