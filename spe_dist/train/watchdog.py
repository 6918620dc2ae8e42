"""A rank that hangs ends, so that whoever launched it can start the ranks again."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def watched(log: Path, *, seconds: float) -> Iterator[Callable[[], None]]:
    """End this process if nothing moves for too long: another rank has stopped or is gone, and this one waits for it.

    The interpreter's own watchdog thread does it, so that it works however deep in a library the rank is stuck. It
    writes the stacks of all threads to the log and exits with 1.

    Args:
        log: log file of this rank.
        seconds: between two signs of life, the first of which starts the clock.

    Yields:
        The sign of life, for after every step.
    """
    with log.open("a") as file:

        def alive() -> None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=file)

        try:
            yield alive
        finally:
            faulthandler.cancel_dump_traceback_later()
