"""What a command waits for while a busy cluster has no place for it: a line a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

import ray
import ray.util

LOGGER = logging.getLogger(__name__)

_FIRST_SECONDS, _EVERY_SECONDS = 10.0, 60.0
_LOOK_SECONDS = 2.0


class WaitingLines:
    """Says what is missing, after ten seconds without a place and then every minute.

    Args:
        needs: of what waits, "2 workers need".
        each: resources of each of these, by Ray's names.
        say: gets the lines.
    """

    def __init__(self, needs: str, each: Mapping[str, float], say: Callable[[str], None]) -> None:
        self._needs, self._each, self._say = needs, each, say
        self._next: float | None = None

    def look(self, *, waits: bool) -> None:
        """Say it if it is time to."""
        now = time.monotonic()
        if not waits:
            self._next = None
        elif self._next is None:
            self._next = now + _FIRST_SECONDS
        elif now >= self._next:
            self._next = now + _EVERY_SECONDS
            self._say(self._line())

    def _line(self) -> str:
        free, all_there = ray.available_resources(), ray.cluster_resources()
        each = " and ".join(f"{amount:g} {kind}{'' if amount == 1 else 's'}" for kind, amount in self._each.items())
        there = " and ".join(f"{free.get(kind, 0):g} of {all_there.get(kind, 0):g} {kind}s" for kind in self._each)
        return f"waiting for the cluster: {self._needs} {each} each; free: {there}"


class WaitForPlaces:
    """Says what the ranks of this process's run wait for while they have no places.

    Args:
        workers: ranks that must find a place.
        each: resources of a rank, by Ray's names.
    """

    def __init__(self, workers: int, each: Mapping[str, float]) -> None:
        self._lines = WaitingLines(
            f"{workers} {'worker needs' if workers == 1 else 'workers need'}", each, LOGGER.warning
        )
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="places", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._over.set()

    def _watch(self) -> None:
        try:
            while not self._over.wait(_LOOK_SECONDS):
                self._lines.look(waits=not have_places())
        except Exception as error:  # Ray is gone: whoever waits for the run is told by Ray itself
            LOGGER.info("stopped watching for free resources: %r", error)


def have_places() -> bool:
    """Whether the ranks of this process's run have theirs.

    Ray Train reserves them all together, as a placement group; its id ends with that of the job.
    """
    job = ray.get_runtime_context().get_job_id()
    groups = ray.util.placement_group_table()
    return any(name.endswith(job) and group["state"] == "CREATED" for name, group in groups.items())
