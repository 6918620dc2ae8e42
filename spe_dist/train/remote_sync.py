"""The small files of a run at a URL: its machines come and go, so what they know goes up, and comes down at a start."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from spe_dist.checkpoint.remote_folder import RemoteFolder
from spe_dist.train.run_folder import CHECKPOINTS, CONFIG, LATEST
from spe_dist.train.run_lock import LOCK
from spe_dist.train.stop_signal import STOP_FILE
from spe_dist.train.tracking import KEPT_BY_TRACKER

LOGGER = logging.getLogger(__name__)


class RemoteSync:
    """Copies of a run's files, checkpoints aside, at a URL; of one rank only."""

    def __init__(self, remote: RemoteFolder, folder: Path) -> None:
        self._remote = remote
        self._folder = folder
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of what is there

    def download(self) -> None:
        """Bring what is there, but for files that have only grown here since: no clock says which is newer.

        Raises:
            OSError: the storage cannot be reached, or the folder not written.
        """
        names = self._remote.files()
        if names.keys().isdisjoint((CONFIG, LATEST)):  # somebody has deleted the run there, to begin it again
            self._forget()
        for name in filter(_is_small, names):
            path = self._folder / name
            there = path.with_name(f".{path.name}.there")
            self._remote.download(name, there)
            if path.exists() and _begins_with(path, there.read_bytes()):
                there.unlink()
            else:
                there.replace(path)

    def _forget(self) -> None:
        """Remove what this machine has of the run."""
        for path in self._folder.glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def upload(self) -> None:
        """Send what has changed since it was sent last.

        Raises:
            OSError: the storage cannot be reached.
        """
        for path in sorted(self._folder.rglob("*")):
            name = path.relative_to(self._folder).as_posix()
            if not (path.is_file() and _is_small(name)):
                continue
            about = (path.stat().st_size, path.stat().st_mtime_ns)
            if self._sent.get(name) != about:
                self._remote.upload(path, name)
                self._sent[name] = about

    def upload_last(self) -> None:
        """Send once more; a failure is logged, as the run is over."""
        try:
            self.upload()
        except OSError as error:
            LOGGER.warning("cannot upload the last lines of metrics and logs to %s: %s", self._remote, error)


def _begins_with(path: Path, content: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(content)) == content


def _is_small(name: str) -> bool:
    first, last = name.partition("/")[0], name.rpartition("/")[2]
    return first not in (CHECKPOINTS, LOCK, STOP_FILE, KEPT_BY_TRACKER) and not last.startswith(".")
