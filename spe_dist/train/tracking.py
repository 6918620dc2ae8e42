"""A run's experiment tracker, seen from the run: a process that follows its metrics, and that it never waits for."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from data_shards.errors import UserError
from spe_dist.config import Tracker

LOGGER = logging.getLogger(__name__)

LOG = "tracker.log"
KEPT_BY_TRACKER = "wandb"  # a folder whose files come and go while a run is copied
_SECONDS_TO_END = 30.0


def require_tracker(tracker: Tracker | None) -> None:
    """Look whether a tracker's library is there.

    Raises:
        UserError: it is not; names the package.
    """
    if tracker is None:
        return
    spec = find_spec(tracker)
    if spec is None or spec.origin is None:  # a folder of that name, which the library itself may have made, is none
        raise UserError(f"run.track is {tracker}, which is not installed: pip install {tracker}")


class TrackedRun:
    """The process of a tracker (`tracker.py`). Whatever becomes of it, the run goes on.

    Args:
        tracker: which.
        folder: folder of the run; what the process prints is in its `tracker.log`.
        name: name of the run.
    """

    def __init__(self, tracker: Tracker, folder: Path, name: str) -> None:
        self._tracker, self._log = tracker, folder / LOG
        self._process: subprocess.Popen | None = None
        here = os.pathsep.join(map(os.path.abspath, sys.path))
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "spe_dist.train.tracker", tracker, str(folder.absolute()), name],
                    stdin=subprocess.PIPE,  # closed when the run is over, or killed
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the run
                    env=os.environ | {"PYTHONPATH": here},
                )
        except OSError as error:
            LOGGER.warning("%s cannot be started, the run continues without it: %s", tracker, error)

    def look(self) -> None:
        """Warn if the process has ended, once."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
            LOGGER.warning("%s has failed, the run continues without it: %s", self._tracker, self._last_line())

    def close(self) -> None:
        """Let it send the rest, for half a minute at most."""
        self.look()
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            if self._process.wait(_SECONDS_TO_END):
                self.look()
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # and what its library has started
            self._process.wait()
            LOGGER.warning(
                "%s did not end in %g seconds and was stopped (%s)", self._tracker, _SECONDS_TO_END, self._log
            )
        self._process = None

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n") if self._log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), f"see {self._log}")
