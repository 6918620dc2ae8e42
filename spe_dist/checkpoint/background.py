"""Checkpoints are written by a thread while training goes on.

    training   … step 100 | copy state | step 101, 102, …                    | step 200 | wait, copy state | …
    thread                               hash, write, sync, agree, rename  ──┘

The ranks' agreement about a save travels on a group of its own (`World.with_own_group`), so it never meets a collective
of the training. Whether a save succeeded is the same on all ranks, and they look at it at the same steps: when the next
one is due, or at once where it matters. So all of them go on, or all of them end. While they wait they hear of one
another: a disk may be slow for as long as it likes, while a rank that is gone or stopped is waited for in vain.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from data_shards.errors import UserError
from spe_dist.checkpoint.snapshot import Snapshot
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World

LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS, _SAY_SECONDS = 0.5, 15.0


class BackgroundSaver:
    """Saves with at most one checkpoint in flight. Every method is called by all ranks, at the same steps.

    Args:
        store: where checkpoints go.
        world: this rank among all.
        most_failures: periodic saves that fail in a row before the run ends, at least 1.
        saved_step: step of the newest checkpoint there is; 0 for none.
        on_saved: called with the step of every checkpoint, by the thread that writes it; must not raise.
    """

    def __init__(
        self,
        store: CheckpointStore,
        world: World,
        *,
        most_failures: int,
        saved_step: int,
        on_saved: Callable[[int], None] | None = None,
    ) -> None:
        self._store = store
        self._world = world.with_own_group()
        self._most_failures = most_failures
        self._on_saved = on_saved
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._in_flight: Future[UserError | None] | None = None
        self._step_in_flight = 0
        self.saved_step = saved_step  # what a restart would go on from
        self.failures = 0  # in a row, up to now

    def save(
        self,
        step: int,
        take_snapshot: Callable[[], Snapshot],
        *,
        required: bool,
        while_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Copy the state and begin to write it; waits for the save before, if that is still going on.

        Args:
            step: updates made so far.
            take_snapshot: copies the state; called when nobody reads the copy before any more.
            required: wait until it is written. So do saves of which a failure would end the run.
            while_waiting: called about once a second while a save is waited for.

        Raises:
            UserError: it was waited for and failed.
        """
        self._wait(while_waiting)
        snapshot = take_snapshot()
        last_chance = self.failures + 1 >= self._most_failures
        self._in_flight, self._step_in_flight = self._pool.submit(self._write, step, snapshot), step
        if not (required or last_chance):
            return
        problem = self._wait(while_waiting)
        if problem is not None:
            times = f"; {self.failures} saves in a row have failed" if self.failures > 1 else ""
            raise UserError(f"{problem}{times}; the newest checkpoint is that of step {self.saved_step}") from problem

    def close(self) -> None:
        """Wait for a save that is going on; how it ends is logged."""
        try:
            if self._in_flight is not None:
                self._in_flight.result()
        except Exception:  # the run ends for a reason of its own, which this must not hide
            LOGGER.exception("the last save did not finish")
        self._pool.shutdown()

    def _wait(self, while_waiting: Callable[[], None] = lambda: None) -> UserError | None:
        """Result of the save in flight; an error that the user cannot fix ends the run here."""
        if self._in_flight is None:
            return None
        began = said = time.monotonic()
        wait([self._in_flight], timeout=_LOOK_SECONDS)
        while not self._has_ended(self._in_flight):
            while_waiting()
            wait([self._in_flight], timeout=_LOOK_SECONDS)
            if time.monotonic() > said + _SAY_SECONDS:
                said = time.monotonic()
                seconds = said - began
                LOGGER.warning(
                    "the checkpoint of step %d has not been written after %.0f s", self._step_in_flight, seconds
                )
        in_flight, self._in_flight = self._in_flight, None
        return in_flight.result()

    def _has_ended(self, in_flight: Future[UserError | None]) -> bool:
        """On all ranks; or on one of them by an error that the others will not hear of."""
        done = in_flight.done()
        ranks = self._world.all_gather_objects((done, done and in_flight.exception() is not None))
        return all(done for done, _ in ranks) or any(failed for _, failed in ranks)

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
        if self._on_saved is not None:
            self._on_saved(step)
        return None
