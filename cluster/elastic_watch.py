"""Changes of the cluster that are known beforehand: save first, then let them come."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

import ray
import ray.train

from spe_dist.train.stop_signal import Ask

LOGGER = logging.getLogger("spe_dist.cluster")

_LOOK_SECONDS = 2.0
_SAVE_AGAIN_SECONDS = 15.0


class ElasticWatch:
    """Asks this rank's run to save when a node is about to be taken away, or when there is room for more ranks.

    Ray Train tells of nodes that are drained (spot machines, an autoscaler, `ray drain-node`), and restarts the ranks
    on what is left when the time is over. When machines come, it restarts them without a word at its next look; so
    the first rank looks for free resources itself. Until the change comes, there is a new checkpoint every 15 s.

    Args:
        max_workers: ranks that the run can use.
        per_worker: resources of a rank, by Ray's names.
        resize_seconds: time between two looks of Ray; room that it has not used by then is no room for this run.
    """

    def __init__(self, *, max_workers: int, per_worker: Mapping[str, float], resize_seconds: float) -> None:
        context = ray.train.get_context()
        self._can_grow = context.get_world_rank() == 0 and context.get_world_size() < max_workers
        self._per_worker = per_worker
        self._resize_seconds = resize_seconds
        self._room_since: float | None = None
        self._asked_at = float("-inf")
        self._ask = Ask.NOTHING
        threading.Thread(target=self._watch, name="elastic-watch", daemon=True).start()

    def __call__(self) -> Ask:
        """What is asked of the run since the last call; never waits."""
        ask, self._ask = self._ask, Ask.NOTHING
        return ask

    def _watch(self) -> None:
        while True:
            try:
                # The first is a barrier: every rank is in it, in a thread that has nothing else to do.
                leaving = ray.train.get_preemption_info() is not None
                growing = self._can_grow and self._has_room()
            except Exception as error:  # the ranks are being taken down, or Ray is
                LOGGER.info("stopped watching for changes of the cluster: %r", error)
                return
            if leaving or growing:
                self._ask_for_save("a node is about to leave" if leaving else "there is room for more ranks")
            time.sleep(_LOOK_SECONDS)

    def _has_room(self) -> bool:
        free = ray.available_resources()
        if any(free.get(kind, 0.0) < amount for kind, amount in self._per_worker.items()):
            self._room_since = None
            return False
        self._room_since = self._room_since or time.monotonic()
        return time.monotonic() - self._room_since < self._resize_seconds + _SAVE_AGAIN_SECONDS

    def _ask_for_save(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._asked_at >= _SAVE_AGAIN_SECONDS:
            LOGGER.info("%s: saving first", reason)
            self._asked_at, self._ask = now, Ask.SAVE
