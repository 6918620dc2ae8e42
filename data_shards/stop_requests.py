"""How a command is asked to end from outside: Ctrl-C, SIGTERM (`kill`, schedulers), SIGHUP (its terminal is closed)."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

STOPPED = 75  # the status of a command that was stopped as asked (EX_TEMPFAIL): the same command goes on
_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none


class Stopped(KeyboardInterrupt):
    """A command ends as it was asked to; the message says in one line what is kept and how to go on.

    A KeyboardInterrupt, because libraries let that one through and clean up.
    """


def on_every_request(handle: Callable[[int], None]) -> dict[signal.Signals, Any]:
    """Call `handle` with the signal's number at every request to end, from here on; gives the handlers before.

    Under nohup a closed terminal is no request. Threads other than the main one may not do this: there nothing happens.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        if number == _HANGUP:
            leave_closed_terminal()
        handle(number)

    if threading.current_thread() is not threading.main_thread():
        return {}
    hangup = [] if _HANGUP is None or signal.getsignal(_HANGUP) is signal.SIG_IGN else [_HANGUP]
    return {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, *hangup)}


@contextmanager
def every_request(handle: Callable[[int], None]) -> Iterator[None]:
    """The same while the block lasts. Comes after `ray.init`, which installs a handler of its own."""
    before = on_every_request(handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def first_request(handle: Callable[[], None]) -> Iterator[None]:
    """Call `handle` at the first request to end while the block lasts; a second one ends the process at once.

    A shell and the system both report that a terminal is closed: a hangup is never the second.

    Args:
        handle: called in the main thread, between two instructions of whatever runs there; may raise.
    """
    asked = False

    def ask(number: int) -> None:
        nonlocal asked
        if not asked:
            asked = True
            handle()
        elif number != _HANGUP:
            os._exit(128 + number)

    with every_request(ask):
        yield


@contextmanager
def stopped_on_request(message: str) -> Iterator[None]:
    """At the first request to end, raise `Stopped` with this message out of the block."""

    def stop() -> None:
        raise Stopped(message)

    with first_request(stop):
        yield


def end_as_it_stands(message: str) -> NoReturn:
    """End this process as `Stopped` does, but without cleaning up: where a library would crash while it cleans up."""
    sys.stdout.write(message + "\n")
    sys.stdout.flush()
    os._exit(STOPPED)


def leave_closed_terminal() -> None:
    """Let what is written to a terminal that is closed go nowhere: writing there would be an error each time."""
    for descriptor in (0, 1, 2):
        if _is_closed(descriptor):
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def reader_is_gone() -> bool:
    """Whether the reader of standard output (not of another pipe or connection) is gone."""
    return _is_closed(sys.stdout.fileno())


def _is_closed(descriptor: int) -> bool:
    if not hasattr(select, "poll"):  # on Windows, where writing fails instead
        return False
    output = select.poll()
    output.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0))
