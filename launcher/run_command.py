"""How every command ends: quietly, or with one line for the person and a non-zero exit status."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable

from data_shards.errors import UserError
from launcher.output import end_if_full, flush_output

READER_GONE = 128 + signal.SIGPIPE  # what shells give for a command whose reader is gone, as `head` soon is


def run_command(command: Callable[[list[str]], None]) -> None:
    """Run a command with this process's arguments; a UserError is printed as one line, without a traceback.

    If whoever read standard output has gone away, the command ends without a word.
    """
    try:
        _run(command)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        sys.exit(READER_GONE)


def _run(command: Callable[[list[str]], None]) -> None:
    try:
        command(sys.argv[1:])
    except UserError as error:
        rank = os.environ.get("RANK", "0")
        print(f"error{'' if rank == '0' else f' (rank {rank})'}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except OSError as error:
        end_if_full(error)
        raise
    finally:
        flush_output()


def _reader_is_gone() -> bool:
    """Of standard output, not of another pipe or connection."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0))
