"""Which records make up lane k of step t: a pure function of (records per shard, held out, fraction, seed, step) alone.

    held out ─▶ the last records of a few shards are never read, the same for all seeds
    fraction ─▶ some of the shards, all if it is 1     keyed by seed
    epoch e ──▶ a permutation of the shards            keyed by (seed, e)
            ──▶ their records, one shard after another: positions 0 … N-1
            ──▶ cut into Λ equal, contiguous streams (one per lane); less than one batch is left out
            ──▶ each stream shuffled inside windows    keyed by (seed, e, lane, window)
    step t  ──▶ lane k takes the next `lane_size` records of its stream

Ranks, loader workers and restarts do not appear: a rank takes whole lanes, resuming is calling this with another step.
A lane reads its stream from front to back but for the window, so it touches a few neighbouring blocks at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data_shards.counted import counted
from data_shards.errors import UserError

# What a generator is for: keeps the streams of random numbers apart.
_SHARDS, _WINDOW, _FRACTION, _HELD_OUT = 1, 2, 3, 4
_HELD_OUT_SHARDS = 16  # that held-out records come from, if these have enough: each of them is opened to evaluate


@dataclass(frozen=True)
class Order:
    """The order of records for one (dataset, seed, batch geometry).

    Args:
        shard_records: records in each shard, in manifest order.
        lanes: number of lanes Λ a global batch is cut into.
        lane_size: records per lane and step.
        seed: the run's seed.
        window: records that are shuffled among themselves inside a lane's stream.
        fraction: fraction of the records that are read at all; a smaller one reads part of what a larger one reads.
        held_out: records that no order reads; 0, or at least a global batch.

    Raises:
        UserError: what is read or held out is less than one global batch.
    """

    shard_records: tuple[int, ...]
    lanes: int
    lane_size: int
    seed: int
    window: int = 4096
    fraction: float = 1.0
    held_out: int = 0

    def __post_init__(self) -> None:
        batch = self.lanes * self.lane_size
        if self.held_out and not batch <= self.held_out <= sum(self.shard_records) - batch:
            raise UserError(
                f"data.held_out is {self.held_out} of {sum(self.shard_records)} records: it must be 0, or leave and "
                f"hold at least one global batch of {self._batch_text()}"
            )
        if self.steps_per_epoch == 0:
            part = "" if self.fraction == 1 else f"a fraction of {self.fraction:g} of "
            raise UserError(
                f"{part}the dataset holds {counted(self.records, 'record')}, less than one global batch of "
                f"{self._batch_text()}: build it from more text or make the batch smaller"
            )

    def _batch_text(self) -> str:
        return f"{counted(self.lanes, 'lane')} x {counted(self.lane_size, 'record')}"

    @property
    def records(self) -> int:
        """Records that are read, each once an epoch."""
        return sum(self.records_in_use)

    @property
    def records_in_use(self) -> tuple[int, ...]:
        """How many first records of each shard are read: all that are not held out, or none, except in one shard."""
        return _records_in_use(self.shard_records, self.held_out, self.fraction, self.seed)

    def held_out_ids(self) -> NDArray[np.int64]:
        """Ids of the held-out records, rising, in lanes, [lanes, lane_size]; what fills no lane is left out."""
        held = np.asarray(_held_out_of_shards(self.shard_records, self.held_out))
        ends = np.cumsum(self.shard_records)
        ids = [np.arange(end - count, end) for end, count in zip(ends, held, strict=True)]
        whole = self.held_out // self.lane_size
        return np.concatenate(ids)[: whole * self.lane_size].reshape(whole, self.lane_size)

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in one pass over the dataset."""
        return self.records // (self.lanes * self.lane_size)

    def record_ids(self, step: int, lanes: Sequence[int]) -> NDArray[np.int64]:
        """Ids of some lanes' records at a step, [len(lanes), lane_size]; an id counts records in manifest order."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        stream_length = self.steps_per_epoch * self.lane_size
        offsets = np.arange(step_in_epoch * self.lane_size, (step_in_epoch + 1) * self.lane_size)
        positions = np.empty((len(lanes), self.lane_size), dtype=np.int64)
        for row, lane in enumerate(lanes):
            positions[row] = lane * stream_length + self._shuffled(offsets, epoch, lane, stream_length)
        return self._ids_of_positions(positions, epoch)

    def _shuffled(self, offsets: NDArray[np.int64], epoch: int, lane: int, stream_length: int) -> NDArray[np.int64]:
        shuffled = np.empty_like(offsets)
        for window in range(int(offsets[0]) // self.window, int(offsets[-1]) // self.window + 1):
            start = window * self.window
            inside = (offsets >= start) & (offsets < start + self.window)
            permutation = _permutation(
                min(self.window, stream_length - start), (_WINDOW, self.seed, epoch, lane, window)
            )
            shuffled[inside] = start + permutation[offsets[inside] - start]
        return shuffled

    def _ids_of_positions(self, positions: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        ends, shift = _shard_layout(self.shard_records, self.records_in_use, self.seed, epoch)
        return positions + shift[np.searchsorted(ends, positions, side="right")]


@lru_cache(maxsize=4)
def _held_out_of_shards(shard_records: tuple[int, ...], held_out: int) -> tuple[int, ...]:
    """How many of the last records of each shard are held out: of neighbours, nearly all are on the same side."""
    counts = np.asarray(shard_records, dtype=np.int64)
    if not held_out:
        return (0,) * len(counts)
    permutation = _permutation(len(counts), (_HELD_OUT,))
    sums = np.cumsum(counts[permutation])
    enough = int(np.searchsorted(sums, min(4 * held_out, sums[-1]))) + 1  # a quarter of what they hold at most
    chosen = permutation[: max(_HELD_OUT_SHARDS, enough)]
    held = np.zeros_like(counts)
    held[chosen] = np.diff(np.cumsum(counts[chosen]) * held_out // counts[chosen].sum(), prepend=0)
    return tuple(held.tolist())


@lru_cache(maxsize=4)
def _records_in_use(shard_records: tuple[int, ...], held_out: int, fraction: float, seed: int) -> tuple[int, ...]:
    counts = np.asarray(shard_records, dtype=np.int64) - np.asarray(_held_out_of_shards(shard_records, held_out))
    wanted = round(fraction * int(counts.sum()))
    permutation = _permutation(len(counts), (_FRACTION, seed))
    taken_before = np.cumsum(counts[permutation]) - counts[permutation]
    in_use = np.empty_like(counts)
    in_use[permutation] = np.clip(wanted - taken_before, 0, counts[permutation])
    return tuple(in_use.tolist())


@lru_cache(maxsize=4)
def _shard_layout(
    shard_records: tuple[int, ...], in_use: tuple[int, ...], seed: int, epoch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each shard ends in the epoch's sequence, and what to add to its positions to get record ids."""
    permutation = _permutation(len(shard_records), (_SHARDS, seed, epoch))
    counts, read = np.asarray(shard_records, dtype=np.int64), np.asarray(in_use, dtype=np.int64)[permutation]
    first_ids = np.cumsum(counts) - counts
    ends = np.cumsum(read)
    return ends, first_ids[permutation] - (ends - read)


@lru_cache(maxsize=256)
def _permutation(size: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key))).permutation(size)
