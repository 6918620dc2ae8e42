"""What a command prints: to a terminal, a pipe, or a file whose disk may be full."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout, suppress
from typing import Any, TextIO

_SECONDS = 0.5
_NOBODY_READS = (errno.EPIPE, errno.EIO)  # a pipe whose reader is gone, a terminal that is closed


def say(text: str, *, end: str = "\n", to: TextIO | None = None) -> None:
    """Print at once; a full disk under standard output does not end what the command does.

    Then the rest of the output is dropped, after a line on standard error.

    Args:
        text: a line as a rule.
        end: after it.
        to: what standard output was, for a thread: another one may have redirected it for a while.

    Raises:
        OSError: nobody reads any more.
    """
    try:
        print(text, end=end, file=to, flush=True)
    except OSError as error:
        if error.errno in _NOBODY_READS:
            raise
        _drop_output(
            to or sys.stdout,
            f"warning: cannot write to standard output any more ({error.strerror}); the command continues",
        )


def text_aside(json: bool) -> AbstractContextManager[Any]:
    """While a command with `--json` works, its text goes to standard error: only JSON is on standard output.

    Args:
        json: whether it was asked for; else nothing changes.
    """
    return redirect_stdout(sys.stderr) if json else nullcontext()


def print_json(result: Any) -> None:
    """What `--json` of a command prints on standard output: one JSON object, or list."""
    result = _with_floats(result, lambda one: one if math.isfinite(one) else None)  # JSON has no number that is none
    say(json.dumps(result, indent=1, default=str, allow_nan=False))


def rounded(value: Any) -> Any:
    """A result for a file that is kept, with six digits of each number: more than what is measured here has."""
    return _with_floats(value, lambda one: float(f"{one:.6g}"))


def _with_floats(value: Any, change: Callable[[float], float | None]) -> Any:
    if isinstance(value, dict):
        return {key: _with_floats(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_floats(one, change) for one in value]
    return change(value) if isinstance(value, float) else value


def flush_output() -> None:
    """Flush standard output at the end of a command.

    Raises:
        OSError: the reader of standard output has closed it.
        SystemExit: what was printed cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        end_if_full(error)
        raise


def end_if_full(error: OSError) -> None:
    """End the command with one line if a disk is full, that of standard output as a rule: others are named before.

    Raises:
        SystemExit: it is.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        line = f"standard output, or a file of this command, cannot be written ({error.strerror}): free some space"
        _drop_output(sys.stdout, f"error: {line}")
        sys.exit(1)


def _drop_output(output: TextIO, line: str) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())  # or Python complains when it ends
    with suppress(OSError):  # it may go to the same disk
        print(line, file=sys.stderr, flush=True)


@contextmanager
def repeated(show: Callable[[], None]) -> Iterator[None]:
    """Call it twice a second while the context lasts, and once more at its end."""
    done = threading.Event()

    def follow() -> None:
        try:
            while not done.wait(_SECONDS):
                show()
            show()
        except OSError as error:  # nobody reads any more: the next print of the main thread ends the command
            if error.errno not in _NOBODY_READS:
                raise

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def clear_line(out: TextIO) -> str:
    """What clears a line that is written again and again; there is none but in a terminal."""
    return "\r\033[K" if out.isatty() else ""
