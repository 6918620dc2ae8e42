"""Tables of text, a row a line: the files of knowledge bases, compressed or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_shards.errors import UserError
from data_shards.input.stream import open_input


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, without their ends, each with its number counted from 1.

    Raises:
        UserError: the file cannot be read, or a line is not UTF-8.
    """
    with open_input(path) as stream:
        for number, raw in enumerate(stream.lines(), start=1):
            try:
                line = raw.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}: invalid UTF-8: convert the file to UTF-8") from error
            if line.strip():
                yield number, line


def read_rows(path: Path, columns: int, *, more: bool = False) -> Iterator[tuple[str, list[str]]]:
    """The rows of a table with tabs between columns, each with where it stands.

    Args:
        path: path of the file.
        columns: that each row has, not empty; white space around them is taken away.
        more: whether a row may have any number of further columns, also empty ones.

    Raises:
        UserError: the file cannot be read, or a row has other columns.
    """
    for number, line in read_lines(path):
        row = [column.strip() for column in line.split("\t")]
        if len(row) < columns or (len(row) > columns and not more):
            raise UserError(
                f"{path}:{number}: expected {columns} columns{' or more' if more else ''} with tabs between them, "
                f"found {len(row)}: correct the line"
            )
        if not all(row[:columns]):
            raise UserError(f"{path}:{number}: column {row.index('') + 1} is empty: correct the line")
        yield f"{path}:{number}", row
