"""The batches of a run, from any step on; a step's are a pure function, so workers and restarts change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from data_shards.errors import UserError
from data_shards.order import Order
from data_shards.ragged import IntArray
from data_shards.reader import ShardReader
from data_shards.record import Records
from spe_dist.batches.batch import Batch

_STEPS_AHEAD = 4  # per process: decoding a shard takes as long as making some dozens of batches
Collate = Callable[[Records, IntArray, int, Sequence[int]], Batch]


@dataclass(frozen=True)
class Steps(Dataset[list[Batch] | UserError]):
    """Item t: the forwards of one rank at step t.

    Args:
        reader: of the dataset.
        order: which records make up each lane.
        collate: makes a batch of them.
        forwards: the lanes of each forward of this rank.
    """

    reader: ShardReader
    order: Order
    collate: Collate
    forwards: Sequence[Sequence[int]]

    def __getitem__(self, step: int) -> list[Batch] | UserError:
        """The batches of a step, on the host; or what is wrong with its data, as torch would bury an exception."""
        try:
            return [self._forward(step, lanes) for lanes in self.forwards]
        except UserError as error:
            return error

    def _forward(self, step: int, lanes: Sequence[int]) -> Batch:
        ids = self.order.record_ids(step, lanes)
        return self.collate(self.reader.take(ids), ids, step, lanes)


def load_steps(steps: Steps, *, first: int, last: int, workers: int) -> Iterator[list[Batch]]:
    """The batches of steps first … last - 1, in order.

    Args:
        steps: what to load.
        first: the first step.
        last: one past the last step.
        workers: loader processes; 0 loads in the calling one. Processes are spawned: a fork of a process that already
            talks to other ranks may hang. They live as long as the iterator, each a few steps ahead.

    Raises:
        UserError: a shard is missing or damaged.
    """
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=range(first, last),
        collate_fn=_as_it_is,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=_STEPS_AHEAD if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # or it would draw from the global one, which dropout draws from after a resume
    )
    for batches in loader:
        if isinstance(batches, UserError):
            raise batches
        yield batches


def _as_it_is(batches: list[Batch]) -> list[Batch]:
    return batches
