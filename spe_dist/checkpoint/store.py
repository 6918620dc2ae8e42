"""A checkpoint is complete, or it is not there.

    <folder>/step-000000200/rank-00000-of-00002.safetensors     each rank writes its share
                            rank-00001-of-00002.safetensors
                            state.json                          step, counters, configuration, versions
                            manifest.json                       size and SHA-256 of every file above
    <folder>/.partial-…                                         not a checkpoint: being written, or being deleted

All files are on the disk before one rename gives the folder its name. Whatever kills a run, and whenever, leaves the
older checkpoints as they were and at most a `.partial-` folder, which the next start removes.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from data_shards.errors import UserError
from data_shards.files import sha256_of_file, sync
from spe_dist.checkpoint.files import failure_of, write_tensors, write_text
from spe_dist.checkpoint.loaded import (
    FORMAT_VERSION,
    MANIFEST,
    STATE,
    LoadedCheckpoint,
    choose_checkpoint,
    fault_of,
    list_checkpoints,
    load_chosen,
    step_of,
)
from spe_dist.engine.world import World

_PARTIAL = ".partial-"
_Files = dict[str, dict[str, Any]]


class CheckpointStore:
    """The checkpoints of one run. Every method is called by all ranks, on any thread, one at a time.

    Args:
        folder: of this run, on a file system that all ranks share; made if missing.
        keep_last: how many of the newest checkpoints are kept, at least 1.
        keep_every: checkpoints of steps divisible by this are kept for good; 0 for none.
        world: this rank among all.

    Raises:
        UserError: the folder cannot be written, or nothing would be kept.
    """

    def __init__(self, folder: Path, *, keep_last: int, keep_every: int, world: World) -> None:
        self.folder = folder
        if keep_last < 1:
            raise UserError(f"train.keep_last is {keep_last}: at least one checkpoint must be kept")
        self._keep_last = keep_last
        self._keep_every = keep_every
        self._world = world.with_own_group()
        self._first_rank_only(self._remove_leftovers)

    def save(self, step: int, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Path:
        """Write a checkpoint, then delete the ones that are no longer kept.

        A complete checkpoint of the same step is left as it is.

        Args:
            step: updates made so far.
            tensors: this rank's share; names differ between ranks.
            metadata: what JSON can hold; rank 0's is written.

        Returns:
            The checkpoint's folder.

        Raises:
            UserError: on every rank, if any rank cannot write. Nothing half-written stays, older checkpoints do.
        """
        final = self.folder / f"step-{step:09d}"
        if self._world.broadcast_object(self._world.is_first and final.exists() and fault_of(final) is None):
            return final
        unfinished = self.folder / f"{_PARTIAL}{final.name}"
        files: _Files = {}
        failure = failure_of(lambda: files.update(self._write_share(unfinished, tensors)), self.folder)
        parts = self._world.all_gather_objects((failure, files))
        self._raise_first([failure for failure, _ in parts], unfinished)
        all_files = {name: entry for _, part in parts for name, entry in part.items()}
        self._first_rank_only(partial(self._complete, unfinished, final, all_files, metadata), unfinished)
        self._first_rank_only(partial(self._delete_surplus, step))
        return final

    def latest(self) -> LoadedCheckpoint | None:
        """The newest checkpoint whose files are all as they were written; None if there is none at all.

        Raises:
            UserError: there are checkpoints but none of them holds. A fresh start would hide that.
        """
        choice = choose_checkpoint(self.folder) if self._world.is_first else None
        return load_chosen(self.folder, self._world.broadcast_object(choice))

    def _write_share(self, unfinished: Path, tensors: dict[str, Tensor]) -> _Files:
        unfinished.mkdir(parents=True, exist_ok=True)
        path = unfinished / f"rank-{self._world.rank:05d}-of-{self._world.size:05d}.safetensors"
        write_tensors(path, tensors)
        return {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}}

    def _complete(self, unfinished: Path, final: Path, files: _Files, metadata: dict[str, Any]) -> None:
        missing = [name for name in files if not (unfinished / name).is_file()]
        if missing:
            raise OSError(f"rank 0 does not see {missing[0]}; all machines must share this folder")
        state = unfinished / STATE
        write_text(state, json.dumps(metadata, indent=1, sort_keys=True))
        files = {**files, STATE: {"bytes": state.stat().st_size, "sha256": sha256_of_file(state)}}
        manifest = {"format_version": FORMAT_VERSION, "step": step_of(final), "files": files}
        write_text(unfinished / MANIFEST, json.dumps(manifest, indent=1))
        sync(unfinished)
        if final.exists():  # found broken above
            self._delete(final)
        unfinished.rename(final)
        sync(self.folder)

    def _delete_surplus(self, step: int) -> None:
        # Later ones do not count: they were skipped when the run resumed, and would push out the good ones.
        checkpoints = [checkpoint for checkpoint in list_checkpoints(self.folder) if step_of(checkpoint) <= step]
        for checkpoint in checkpoints[: -self._keep_last]:
            if not (self._keep_every and step_of(checkpoint) % self._keep_every == 0):
                self._delete(checkpoint)

    def _delete(self, checkpoint: Path) -> None:
        # Renamed first: a run killed in the middle of deleting must not leave half a checkpoint under a good name.
        doomed = self.folder / f"{_PARTIAL}deleting-{checkpoint.name}"
        checkpoint.rename(doomed)
        shutil.rmtree(doomed)

    def _remove_leftovers(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover)

    def _first_rank_only(self, action: Any, unfinished: Path | None = None) -> None:
        failure = failure_of(action, self.folder) if self._world.is_first else None
        self._raise_first([self._world.broadcast_object(failure)], unfinished)

    def _raise_first(self, failures: list[str | None], unfinished: Path | None) -> None:
        """Raise on all ranks or on none, after the half-written folder is gone."""
        failure = next((failure for failure in failures if failure), None)
        if failure is None:
            return
        if unfinished is not None:
            if self._world.is_first:
                shutil.rmtree(unfinished, ignore_errors=True)
            self._world.barrier()
        raise UserError(failure)
