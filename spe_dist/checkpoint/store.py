"""A checkpoint is complete, or it is not there.

    <folder>/step-000000200/rank-00000-of-00002.safetensors     each rank writes its share
                            rank-00001-of-00002.safetensors
                            state.json                          step, counters, configuration, versions
                            manifest.json                       size and SHA-256 of every file above
    <folder>/.partial-…                                         not a checkpoint: being written, or being deleted

In a shared folder, all files are on the disk before one rename gives the folder its name; in an object storage, the
manifest comes last and goes first (`storage_backends.py`). Whatever kills a run, and whenever, leaves the older
checkpoints as they were and at most files that are no checkpoint, which the next start removes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from data_shards.errors import UserError
from spe_dist.checkpoint.durable_files import failure_of
from spe_dist.checkpoint.reader import Choice, LoadedCheckpoint, load_chosen, name_of
from spe_dist.checkpoint.storage_backends import Files, SharedFolder, StorageBackend
from spe_dist.engine.world import World

LOGGER = logging.getLogger(__name__)

_READING, _WRITING = "read checkpoints of", "write a checkpoint to"


class CheckpointStore:
    """The checkpoints of one run. Every method is called by all ranks, on any thread, one at a time.

    Args:
        storage: where they lie; a path is a folder on a file system that all ranks share.
        keep_last: how many of the newest checkpoints are kept, at least 1.
        keep_every: checkpoints of steps divisible by this are kept for good; 0 for none.
        world: this rank among all.

    Raises:
        UserError: the storage cannot be written, or nothing would be kept.
    """

    def __init__(self, storage: Path | StorageBackend, *, keep_last: int, keep_every: int, world: World) -> None:
        self._storage: StorageBackend = SharedFolder(storage) if isinstance(storage, Path) else storage
        if keep_last < 1:
            raise UserError(f"train.keep_last is {keep_last}: at least one checkpoint must be kept")
        self._keep_last = keep_last
        self._keep_every = keep_every
        self._world = world.with_own_group()
        self._undeletable: set[int] = set()
        self._first_rank_only(self._storage.remove_leftovers)

    @property
    def folder(self) -> Path:
        """Local folder from which checkpoints are read."""
        return self._storage.folder

    def save(self, step: int, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
        """Write a checkpoint, then delete the ones that are no longer kept.

        A complete checkpoint of the same step is left as it is.

        Args:
            step: updates made so far.
            tensors: this rank's share; names differ between ranks.
            metadata: what JSON can hold; rank 0's is written.

        Returns:
            Where it is, for people.

        Raises:
            UserError: on every rank, if any rank cannot write. Nothing half-written stays, older checkpoints do.
        """
        where = f"{self._storage}/{name_of(step)}"
        found: list[bool] = []
        self._first_rank_only(lambda: found.append(self._storage.is_complete(step)))
        if self._world.broadcast_object(found[:1]) == [True]:
            return where
        name = f"rank-{self._world.rank:05d}-of-{self._world.size:05d}.safetensors"
        files: Files = {}
        failure = failure_of(lambda: files.update(self._storage.write_share(step, name, tensors)), self._storage)
        parts = self._world.all_gather_objects((failure, files))
        self._raise_first([failure for failure, _ in parts], step)
        all_files = {name: entry for _, part in parts for name, entry in part.items()}
        self._first_rank_only(partial(self._storage.complete, step, all_files, metadata), step)
        if self._world.is_first:
            self._delete_surplus(step)
        self._world.barrier()
        return where

    def latest(self) -> LoadedCheckpoint | None:
        """The newest checkpoint whose files are all as they were written; None if there is none at all.

        Raises:
            UserError: there are checkpoints but none of them holds (a fresh start would hide that), or the storage
                cannot be read.
        """
        chosen: list[Choice] = []
        self._first_rank_only(lambda: chosen.append(self._storage.choose()), doing=_READING)
        name, skipped = self._world.broadcast_object(chosen[:1])[0]
        if name is not None:
            fetch = self._world.local_rank == 0
            failure = failure_of(partial(self._storage.fetch, name), self._storage, _READING) if fetch else None
            self._raise_first(self._world.all_gather_objects(failure), None)
        return load_chosen(self._storage.folder, (name, skipped))

    def _delete_surplus(self, step: int) -> None:
        """What cannot be deleted stays, with one warning: the checkpoint just written is good."""
        try:
            # Later ones do not count: they were skipped when the run resumed, and would push out the good ones.
            steps = [found for found in self._storage.steps() if found <= step]
        except OSError as error:
            LOGGER.warning("cannot look for old checkpoints in %s: %s", self._storage, error)
            return
        for old in steps[: -self._keep_last]:
            if old in self._undeletable or (self._keep_every and old % self._keep_every == 0):
                continue
            try:
                self._storage.delete(old)
            except OSError as error:
                self._undeletable.add(old)
                LOGGER.warning("the old checkpoint of step %d cannot be deleted and remains: %s", old, error)

    def _first_rank_only(self, action: Callable[[], Any], step: int | None = None, doing: str = _WRITING) -> None:
        failure = failure_of(action, self._storage, doing) if self._world.is_first else None
        self._raise_first([self._world.broadcast_object(failure)], step)

    def _raise_first(self, failures: list[str | None], step: int | None) -> None:
        """Raise on all ranks or on none; the files of a save are gone then."""
        failure = next((failure for failure in failures if failure), None)
        if failure is None:
            return
        if step is not None:
            if self._world.is_first:
                self._storage.abandon(step)
            self._world.barrier()
        raise UserError(failure)
