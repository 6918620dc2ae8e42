"""The batches of a run, from any step on; a step's are a pure function, so workers and restarts change nothing."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from data_shards.errors import UserError
from data_shards.ragged import IntArray
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import Records
from spe_dist.batches.batch import Batch

_STEPS_AHEAD = 4  # per process: decoding a shard takes as long as making some dozens of batches
_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
Collate = Callable[[Records, IntArray, int, Sequence[int]], Batch]


class RecordOrder(Protocol):
    """Which records make up some lanes of a step."""

    def record_ids(self, step: int, lanes: Sequence[int]) -> IntArray:
        """Their ids, [len(lanes), lane_size]."""
        ...


@dataclass(frozen=True)
class Steps(Dataset[list[Batch] | UserError]):
    """Item t: the forwards of one rank at step t.

    Args:
        reader: reader of the dataset.
        order: which records make up each lane.
        collate: makes a batch of them.
        forwards: the lanes of each forward of this rank.
        cut: makes other forwards of these lanes at every step, given how many pieces each lane has, [CLS] and [SEP]
            included; None: they stay as they are.
    """

    reader: ShardReader
    order: RecordOrder
    collate: Collate
    forwards: Sequence[Sequence[int]]
    cut: Callable[[Sequence[int]], Sequence[Sequence[int]]] | None = None

    def __getitem__(self, step: int) -> list[Batch] | UserError:
        """The batches of a step, on the host; or what is wrong with its data, as torch would bury an exception."""
        try:
            if self.cut is None:
                return [self._forward(step, lanes) for lanes in self.forwards]
            return self._cut_forwards(step, self.cut)
        except UserError as error:
            return error

    def nothing(self) -> Batch:
        """A forward of no records, for a rank that has fewer forwards than another."""
        return self._forward(0, ())

    def _forward(self, step: int, lanes: Sequence[int]) -> Batch:
        ids = self.order.record_ids(step, lanes)
        return self.collate(self.reader.take(ids), ids, step, lanes)

    def _cut_forwards(self, step: int, cut: Callable[[Sequence[int]], Sequence[Sequence[int]]]) -> list[Batch]:
        mine = [lane for lanes in self.forwards for lane in lanes]
        ids = self.order.record_ids(step, mine)
        records = self.reader.take(ids)
        pieces = (records.pieces.lengths + 2).reshape(ids.shape).sum(axis=1)
        batches, first = [], 0
        for lanes in cut(pieces.tolist()):
            rows = np.arange(first, first + len(lanes) * ids.shape[1])
            batches.append(self.collate(records.take(rows), ids.reshape(-1)[rows].reshape(len(lanes), -1), step, lanes))
            first += len(rows)
        return batches


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
        RuntimeError: a loader process has died.
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
        worker_init_fn=_leave_group,
        generator=torch.Generator(),  # or it would draw from the global one, which dropout draws from after a resume
    )
    for batches in _started(loader):
        if isinstance(batches, UserError):
            raise batches
        yield batches


def _as_it_is(batches: list[Batch]) -> list[Batch]:
    return batches


def _started(loader: DataLoader[list[Batch] | UserError]) -> Iterator[list[Batch] | UserError]:
    """The loader's items; its processes are there when this returns, and hear no request to end the run.

    Ctrl-C in a terminal, torchrun and schedulers send those to the whole process group: the run must save, and until
    then it needs its loaders.
    """
    if loader.num_workers:
        _remember_dead_children()
        resource_tracker.ensure_running()  # else started below, which would unblock signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _REQUESTS)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_group(worker: int) -> None:
    """In a loader process, which starts with stop requests blocked: let only the rank's own SIGTERM through."""
    os.setsid()
    for number in _REQUESTS:
        signal.signal(number, signal.SIG_IGN)  # forgets one that waits
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _REQUESTS)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _remember_dead_children() -> None:
    """Let the system keep the exit status of a child until it is asked for, where this process ignores SIGCHLD.

    Ray's workers do, and then whoever asks takes a dead loader for a living one and waits for ever. By the C library:
    Python lets no thread but the main one change it, and Ray runs ranks in another.
    """
    library = ctypes.CDLL(None)
    library.signal.restype, library.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    before = library.signal(signal.SIGCHLD, int(signal.SIG_DFL))
    if before != int(signal.SIG_IGN):
        library.signal(signal.SIGCHLD, before)
