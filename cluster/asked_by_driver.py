"""The first rank's side of what the driver asks of a run."""

from __future__ import annotations

import logging
import threading
import time

from cluster.run_flags import RunFlag, is_set, set_flag
from spe_dist.train.stop_signal import Ask

LOGGER = logging.getLogger("spe_dist.cluster")

_LOOK_SECONDS = 0.5


class AskedByDriver:
    """Asks the run to stop when the driver does, and lets the driver know that there is something to save."""

    def __init__(self) -> None:
        self._ask = Ask.NOTHING
        self._has_trained = False
        threading.Thread(target=self._watch, name="asked-by-driver", daemon=True).start()

    def __call__(self) -> Ask:
        """What is asked of the run, after a step; waits for Ray's store after the first one only."""
        if not self._has_trained:
            self._has_trained = True
            set_flag(RunFlag.BEGUN)
        return self._ask

    def _watch(self) -> None:
        try:
            while not is_set(RunFlag.STOP):
                time.sleep(_LOOK_SECONDS)
            self._ask = Ask.STOP
        except Exception as error:  # the ranks are being taken down, or Ray is
            LOGGER.info("stopped watching for requests of the driver: %r", error)
