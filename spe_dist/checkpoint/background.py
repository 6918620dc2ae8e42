"""Checkpoints are written by a thread while training goes on.

    training   … step 100 | copy state | step 101, 102, …                    | step 200 | wait, copy state | …
    thread                               hash, write, sync, agree, rename  ──┘

The ranks' agreement about a save travels on a group of its own (`World.with_own_group`), so it never meets a collective
of the training. Whether a save succeeded is the same on all ranks, and they look at it at the same steps: when the next
one is due, or at once where it matters. So all of them go on, or all of them end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from data_shards.errors import UserError
from spe_dist.checkpoint.snapshot import Snapshot
from spe_dist.checkpoint.store import CheckpointStore

LOGGER = logging.getLogger(__name__)


class BackgroundSaver:
    """Saves with at most one checkpoint in flight. Every method is called by all ranks, at the same steps.

    Args:
        store: where checkpoints go.
        most_failures: periodic saves that fail in a row before the run ends, at least 1.
        saved_step: of the newest checkpoint there is; 0 for none.
    """

    def __init__(self, store: CheckpointStore, *, most_failures: int, saved_step: int) -> None:
        self._store = store
        self._most_failures = most_failures
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._in_flight: Future[UserError | None] | None = None
        self.saved_step = saved_step  # what a restart would go on from
        self.failures = 0  # in a row, up to now

    def save(self, step: int, take_snapshot: Callable[[], Snapshot], *, required: bool) -> None:
        """Copy the state and begin to write it; waits for the save before, if that is still going on.

        Args:
            step: updates made so far.
            take_snapshot: copies the state; called when nobody reads the copy before any more.
            required: wait until it is written. So do saves of which a failure would end the run.

        Raises:
            UserError: it was waited for and failed.
        """
        self._wait()
        snapshot = take_snapshot()
        last_chance = self.failures + 1 >= self._most_failures
        self._in_flight = self._pool.submit(self._write, step, snapshot)
        if not (required or last_chance):
            return
        problem = self._wait()
        if problem is not None:
            times = f"; {self.failures} saves in a row have failed" if self.failures > 1 else ""
            raise UserError(f"{problem}{times}; the newest checkpoint is that of step {self.saved_step}") from problem

    def close(self) -> None:
        """Wait for a save that is going on; how it ends is logged."""
        try:
            self._wait()
        except Exception:  # the run ends for a reason of its own, which this must not hide
            LOGGER.exception("the last save did not end")
        self._pool.shutdown()

    def _wait(self) -> UserError | None:
        """What became of the save in flight; any other error than the person's to mend ends the run here."""
        if self._in_flight is None:
            return None
        in_flight, self._in_flight = self._in_flight, None
        return in_flight.result()

    def _write(self, step: int, snapshot: Snapshot) -> UserError | None:
        snapshot.wait()
        try:
            checkpoint = self._store.save(step, snapshot.tensors, snapshot.metadata)
        except UserError as error:
            self.failures += 1
            LOGGER.warning("step %d was not saved (%d in a row): %s", step, self.failures, error)
            return error
        self.failures, self.saved_step = 0, step
        LOGGER.info("saved %s", checkpoint)
        return None
