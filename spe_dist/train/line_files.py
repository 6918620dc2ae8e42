"""Files of lines that grow while a run goes on: appended to whatever the disk does, read whatever became of them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

LOGGER = logging.getLogger(__name__)


class AppendedFile:
    """A file that grows; what a full disk does not take waits in memory for the next time: nothing is lost or torn."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._unwritten = b""

    def append(self, data: bytes) -> None:
        """Write at the end."""
        self._unwritten += data
        try:
            while self._unwritten:  # a disk that fills up takes a part
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        except OSError as error:
            LOGGER.warning("cannot write %s now, trying again later: %s", self._path, error.strerror)

    def close(self) -> None:
        """Write what is still waiting."""
        self.append(b"")
        self._file.close()


def read_json_lines(path: Path, *, field: str) -> list[tuple[bytes, dict[str, Any]]]:
    """The whole lines of a file, each with the object it holds; none if there is no such file.

    Half a line at the end is being written, or was when the process was killed, and is passed over. Any other line that
    cannot be read (a power failure may leave zeros) is left out with a warning.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            continue
        try:
            values = json.loads(line)
            values[field]
        except (ValueError, LookupError, TypeError, RecursionError):
            LOGGER.warning("line %d of %s is damaged and was skipped", number, path)
            continue
        found.append((line, values))
    return found
