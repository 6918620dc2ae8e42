"""Lines of a file, none so long that memory cannot hold it: a few kilobytes, decompressed, can be gigabytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from data_shards.errors import UserError

MAX_LINE = 64 << 20


def bounded_lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a file, newlines included.

    Args:
        file: open, decompressed or not.
        name: in messages.

    Raises:
        UserError: a line is longer than `MAX_LINE`.
    """
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise UserError(f"{name}: line {number} is longer than {MAX_LINE >> 20} MiB: is this a text file?")
        yield line
