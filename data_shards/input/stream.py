"""Opening an input: a file or standard input, compressed or not, with or without a byte order mark.

Compression is recognised by content as well as by ending. An input can be read once, so that pipes work too; its first
lines may be looked at before.
"""

from __future__ import annotations

import bz2
import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from data_shards.errors import UserError

STANDARD_INPUT = "-"
COMPRESSED = (".gz", ".bz2")
MAX_LINE = 64 << 20  # bytes: a few kilobytes, decompressed, can be a line of gigabytes

_BLOCK = 1 << 20  # bytes read at a time; also the most that is looked at of a line
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = re.compile(rb"\x1f\x8b")
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")  # of an empty one, the second
_REFUSED = (
    (re.compile(rb"\xff\xfe|\xfe\xff"), "UTF-16 text: convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive: unpack it and name what is in it"),
    (re.compile(rb"\xfd7zXZ\x00"), "compressed by xz, only .gz and .bz2 are read: decompress it"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "compressed by zstd, only .gz and .bz2 are read: decompress it"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "a 7z archive: unpack it and name what is in it"),
    (re.compile(rb"[\s\S]{257}ustar"), "a tar archive: unpack it and name the folder"),
)


class InputStream:
    """The bytes of an input, decompressed and without byte order mark."""

    def __init__(self, file: BinaryIO, name: str, path: Path | None, stored: BinaryIO | None = None) -> None:
        self._file, self._stored = file, stored
        self._ahead: list[bytes] = []
        self.name = name
        self.path = path

    @property
    def position(self) -> int:
        """Bytes of the file that have been read, as they are stored: compressed ones if it is; 0 if nobody knows."""
        return self._stored.tell() if self._stored is not None else 0

    def look(self, index: int) -> bytes:
        """A line that has not been read yet, counted from 0, or the beginning of a very long one; empty at the end.

        Raises:
            UserError: the input cannot be read, or is in an encoding or archive that is not read.
        """
        with _explained(self.name):
            while len(self._ahead) <= index:
                piece = self._file.readline(_BLOCK)
                if not self._ahead:
                    self._check(piece)
                    piece = piece.removeprefix(_BYTE_ORDER_MARK)
                if not piece:
                    return b""
                self._ahead.append(piece)
        return self._ahead[index]

    def _check(self, start: bytes) -> None:
        for pattern, what in _REFUSED:
            if pattern.match(start):
                raise UserError(f"{self.name} is {what}")

    def lines(self) -> Iterator[bytes]:
        """All lines, newlines included.

        Raises:
            UserError: the input cannot be read to its end, or a line is too long for any text.
        """
        self.look(0)
        begun, number = b"", 1
        with _explained(self.name):
            for piece in chain(self._ahead, iter(lambda: self._file.readline(_BLOCK), b"")):
                begun += piece
                if begun.endswith(b"\n"):
                    yield begun
                    begun, number = b"", number + 1
                elif len(begun) > MAX_LINE:
                    raise UserError(
                        f"{self.name}: line {number} is longer than {MAX_LINE >> 20} MiB: is this a text file?"
                    )
            if begun:
                yield begun

    def blocks(self) -> Iterator[bytes]:
        """The bytes in blocks of about a megabyte.

        Raises:
            UserError: the input cannot be read to its end.
        """
        self.look(0)
        yield from self._ahead
        with _explained(self.name):
            while block := self._file.read(_BLOCK):
                yield block


@contextmanager
def open_input(name: str | Path, copy: Path | None = None) -> Iterator[InputStream]:
    """A file, or standard input if the name is `-`; if that has been copied, the copy.

    Raises:
        UserError: there is no such file, or it cannot be opened.
    """
    name = str(name)
    path = copy or (None if name == STANDARD_INPUT else Path(name))
    called = "standard input" if name == STANDARD_INPUT else name
    with ExitStack() as stack:
        with _explained(called):
            if path is None:
                raw = standard_input()
            else:
                check_is_file(str(path))
                raw = stack.enter_context(path.open("rb"))
            stream = InputStream(_decompressed(raw, Path(name).suffix), called, path, raw if path else None)
        yield stream


def check_is_file(name: str) -> None:
    """Refuse a name of nothing, or of a folder."""
    path = Path(name)
    if path.is_dir():
        raise UserError(f"{name} is a folder: name the files in it")
    if not path.exists():
        raise UserError(f"{name}: no such file")


def standard_input() -> io.BufferedReader:
    """The bytes of standard input as they come.

    Raises:
        UserError: it is closed.
    """
    if sys.stdin is None:
        raise UserError("standard input is closed: name a file")
    buffer = sys.stdin.buffer
    return buffer if isinstance(buffer, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, buffer))


def _decompressed(file: io.BufferedReader, suffix: str) -> BinaryIO:
    start = file.peek(16)[:16]
    if _GZIP.match(start) or suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if _BZIP2.match(start) or suffix == ".bz2":
        return cast(BinaryIO, bz2.BZ2File(file))
    return file


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{name}: cannot be read ({error.strerror})") from error
        raise UserError(f"{name}: damaged or truncated compressed file ({error}): fetch it again") from error
