"""One run at a time writes into a folder."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import IO

from data_shards.errors import UserError
from data_shards.files import explain_write_errors
from spe_dist.engine.world import World

LOGGER = logging.getLogger(__name__)

LOCK = "LOCK"
_WAIT_SECONDS = 30.0  # ranks of this run that were killed, or are being killed, may still hold it
_LOOK_SECONDS = 0.2


class RunLock:
    """Held by the first rank of a run while it lives; the system takes it back when the process dies, however it does.

    Args:
        folder: to lock.
        world: world of ranks.
        advice: for who is refused.

    Raises:
        UserError: on every rank, if another process holds it and goes on holding it.
    """

    def __init__(
        self, folder: Path, world: World, *, advice: str = "give this one its own run.name, or stop the other"
    ) -> None:
        self._file: IO[str] | None = None
        self._advice = advice
        problem = None
        if world.is_first:
            try:
                self._take(folder)
            except UserError as error:
                problem = str(error)
            except OSError as error:
                problem = f"cannot write the run folder {folder}: {error.strerror}"
        problem = world.broadcast_object(problem)
        if problem:
            raise UserError(problem)

    def release(self) -> None:
        """Let the next one in."""
        if self._file is not None:
            self._file.close()

    def _take(self, folder: Path) -> None:
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / LOCK).open("a+")
            if not _locked(self._file, folder):
                raise UserError(f"another run is using {folder} ({_holder(self._file)}): {self._advice}")
            self._file.truncate(0)
            holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%F %T")}
            self._file.write(json.dumps(holder) + "\n")
            self._file.flush()


def _locked(file: IO[str], folder: Path) -> bool:
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
        except OSError as error:
            LOGGER.warning(
                "the file system of %s has no locks (%s): a second run on it would not be refused",
                folder,
                error.strerror,
            )
            return True
        time.sleep(_LOOK_SECONDS)


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        holder = json.loads(file.readline())
        return f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "its process is not known"
