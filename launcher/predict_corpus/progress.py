"""How far `spe predict` is: a line that a terminal shows all the time, and a log every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from data_shards.counted import counted
from launcher.output import clear_line, repeated, say

_LOG_SECONDS = 10.0


class Progress:
    """What is done, and what is to be done.

    Args:
        phase: said until there are texts.
    """

    def __init__(self, phase: str = "loading the model") -> None:
        self.phase = phase
        self.texts, self.sentences = 0, 0
        self.read, self.size = 0.0, 0
        """Bytes of the input that are done, and all of them; 0 if nobody knows."""
        self._began = time.monotonic()
        self._texts_before, self._read_before = 0, 0.0
        self._moved = self._began, 0.0  # when the bytes were last seen to have grown, and how many they were

    def add(self, texts: int, read: float = 0.0) -> None:
        """Count some more texts, and the bytes that they were read from."""
        self.texts += texts
        self.read += read

    def add_sentences(self, sentences: int) -> None:
        """Count sentences that are read, of a text that may go on."""
        self.sentences += sentences

    def add_finished(self, texts: int, read: float) -> None:
        """Count what an earlier command has done: rate and time left are those of this one."""
        self.add(texts, read)
        self._texts_before += texts
        self._read_before += read

    def begin(self, phase: str) -> None:
        """Begin a phase in which texts are predicted; rates count from here."""
        self.phase = phase
        self._began = time.monotonic()

    def __str__(self) -> str:
        return counted(self.texts, "text")

    def line(self) -> str:
        """The progress in one line, for people."""
        if not self.texts and not self.sentences:
            return self.phase
        now = time.monotonic()
        seconds = max(now - self._began, 1e-3)
        if self.read != self._moved[1]:
            self._moved = now, self.read
        parts = [str(self), *([counted(self.sentences, "sentence")] if self.sentences else [])]
        if done := self.sentences or self.texts - self._texts_before:
            parts.append(f"{rate_text(done / seconds)} a second")
        if self.size and self.read and self.texts:
            parts.append(f"{min(self.read / self.size, 1.0):.0%} of the input")
            since, rate = now - self._moved[0], (self.read - self._read_before) / seconds
            if rate and since <= seconds / 2:  # else a text takes longer than all before it: nobody knows how long
                parts.append(f"{duration_text(max(self.size - self.read, 0) / rate)} left")
        return ", ".join(parts)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Say on standard error how far it is while the context lasts."""
        out, said = sys.stderr, time.monotonic()

        def show() -> None:
            nonlocal said
            if out.isatty():
                say(f"{clear_line(out)}{self.line()}", end="", to=out)
            elif time.monotonic() >= said + _LOG_SECONDS:
                said = time.monotonic()
                say(self.line(), to=out)

        try:
            with repeated(show):
                yield
        finally:
            say(clear_line(out), end="", to=out)


def rate_text(rate: float) -> str:
    """So many a second."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def duration_text(seconds: float) -> str:
    """A time in one unit."""
    for unit, length in (("s", 1), ("min", 60)):
        if seconds < 100 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"
