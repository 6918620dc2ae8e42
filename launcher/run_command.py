"""How every command ends: quietly, or with one line for the person and a non-zero exit status."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from data_shards.errors import UserError
from data_shards.stop_requests import STOPPED, Stopped, reader_is_gone
from launcher.output import end_if_full, flush_output

INTERRUPTED = 128 + signal.SIGINT  # what shells give for Ctrl-C
READER_GONE = 128 + 13  # of SIGPIPE: what shells give for a command whose reader is gone, as `head` soon is


class _HubRetries(logging.Filter):
    """Turns a library's lines about each try into one of ours: what a hub that is not reached makes people wait for."""

    told = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to print a record."""
        first, self.told = not self.told, True
        record.msg, record.args = "the Hugging Face hub does not answer: trying again for half a minute", ()
        return first


def run_command(command: Callable[[list[str]], None]) -> None:
    """Run a command with this process's arguments; a UserError is printed as one line, without a traceback.

    If whoever read standard output has gone away, the command ends without a word.
    """
    programs = Path(sys.executable).parent  # where pip puts ninja
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["MPLBACKEND"] = "agg"  # pictures are files; a notebook names a backend that may not be installed here
    logging.getLogger("huggingface_hub.utils._http").addFilter(_HubRetries())
    try:
        _run(command)
    except OSError as error:  # of a pipe whose reader has gone, or a terminal that is closed
        if error.errno not in (errno.EPIPE, errno.EIO) or not reader_is_gone():
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
    except Stopped as stop:
        print(stop)
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        flush_output()
