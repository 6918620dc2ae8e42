"""JSON over any number of lines: the elements of one list, or values one after another, read as they are needed."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any

MAX_VALUE = 64 << 20  # characters: as the longest line of JSON lines
_MORE = 1 << 16  # characters to read on at least
_NEAR_THE_END = 16  # characters: what is wrong there may be right with what follows
_BLANKS = " \t\r\n"


class JsonError(ValueError):
    """What is wrong, and in which line and column, counted from 1."""

    def __init__(self, line: int, column: int | None, reason: str) -> None:
        super().__init__(f"line {line}, column {column}: {reason}" if column else f"line {line}: {reason}")


def read_values(blocks: Iterable[bytes]) -> Iterator[Any]:
    """The elements of a list, or one value or several.

    Memory is that of a few blocks and the largest value.

    Raises:
        JsonError: it is no JSON, or goes on after the list.
    """
    text = _Text(iter(blocks))
    if text.next() != "[":
        while text.next():
            yield text.value()
        return
    text.skip()
    separator = "]" if text.next() == "]" else ","
    while separator == ",":
        yield text.value()
        separator = text.next()
        if separator not in ("]", ","):
            raise text.error("neither a comma nor the end of the list after an element")
        if separator == ",":
            text.skip()
    text.skip()
    if text.next():
        raise text.error("text after the end of the list")


class _Text:
    """The text from some place on."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._parser = json.JSONDecoder()
        self._buffer, self._at = "", 0
        self._line = self._column = 1  # of the buffer's first character

    def next(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _BLANKS:
                    return self._buffer[self._at]
                self._at += 1
            if not self._read_on():
                return ""

    def skip(self) -> None:
        """Pass over a character."""
        self._at += 1

    def value(self) -> Any:
        """The value that begins at the next character."""
        self.next()
        while True:
            try:
                value, end = self._parser.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                unfinished = error.pos >= len(self._buffer) - _NEAR_THE_END or error.msg.startswith("Unterminated")
                if not (unfinished and self._read_on()):
                    raise self.error(error.msg[0].lower() + error.msg[1:], error.pos) from error
            except RecursionError as error:
                raise self.error("nested too deeply") from error
            except ValueError as error:  # a number of too many digits
                raise self.error(str(error)) from error
            else:
                if end < len(self._buffer) - _NEAR_THE_END or not self._read_on():  # else a number may go on
                    self._at = end
                    return value

    def error(self, reason: str, at: int | None = None) -> JsonError:
        """What is wrong with the character `at`, or the next one."""
        return JsonError(*self._place(self._at if at is None else at), reason)

    def _place(self, at: int) -> tuple[int, int]:
        newlines = self._buffer.count("\n", 0, at)
        column = at - self._buffer.rfind("\n", 0, at) if newlines else self._column + at
        return self._line + newlines, column

    def _read_on(self) -> bool:
        """Double what is left of the text, so that a long value is parsed few times; False if there is no more."""
        if len(self._buffer) - self._at > MAX_VALUE:
            raise self.error(f"a value of more than {MAX_VALUE >> 20} Mi characters")
        more: list[str] = []
        size = 0
        while size < max(_MORE, len(self._buffer) - self._at):
            block = next(self._blocks, b"")
            more.append(self._decode(block, more))
            size += len(more[-1])
            if not block:
                break
        if size:
            self._line, self._column = self._place(self._at)
            self._buffer, self._at = self._buffer[self._at :] + "".join(more), 0
        return size > 0

    def _decode(self, block: bytes, before: list[str]) -> str:
        try:
            return self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            newlines = sum(text.count("\n") for text in (self._buffer, *before)) + block.count(b"\n", 0, error.start)
            raise JsonError(self._line + newlines, None, "invalid UTF-8") from error
