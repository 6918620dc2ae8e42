"""Run functions on several real processes that talk over gloo, and bring back what they return or raise."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import torch.distributed as dist

from tests.forked import forking_context

_TIMEOUT = float(os.environ.get("SPE_DIST_RANKS_TIMEOUT", "300"))
_WORLDS: dict[int, Ranks] = {}  # by size; starting processes and importing torch takes longer than most tests


def run_ranks(function: Callable[..., Any], world_size: int, *args: Any, timeout: float = _TIMEOUT) -> list[Any]:
    """Call `function(*args)` on every rank, on processes that are kept for the next call until one fails.

    Args:
        function: at the top level of an importable module; results and arguments must pickle.
        world_size: number of processes.
        timeout: seconds for all of it; whoever still runs then is killed and the test fails.

    Returns:
        The results in rank order.
    """
    if world_size not in _WORLDS:
        _WORLDS[world_size] = Ranks(world_size)
    try:
        return _WORLDS[world_size].call(function, args, timeout)
    except BaseException:
        _WORLDS.pop(world_size).kill()
        raise


def end_worlds() -> None:
    """End all processes that are kept."""
    while _WORLDS:
        _WORLDS.popitem()[1].kill()


atexit.register(end_worlds)  # before multiprocessing asks them by SIGTERM, which a run that trained obeys later


class Ranks:
    """Processes with a process group.

    Args:
        world_size: how many.
        one_gpu: all compute on the first GPU, if there is one. They are new processes, for one that is forked from a
            process that has asked for GPUs cannot use them; and they may start loaders.
    """

    def __init__(self, world_size: int, *, one_gpu: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._ranks: list[tuple[BaseProcess, Connection]] = []
        context = multiprocessing.get_context("spawn") if one_gpu else forking_context()
        for rank in range(world_size):
            here, there = context.Pipe()
            store, local_rank = f"file://{self._folder.name}/store", 0 if one_gpu else rank
            arguments = (rank, local_rank, world_size, store, there)
            process = context.Process(target=_rank, args=arguments, daemon=not one_gpu)
            process.start()
            there.close()
            self._ranks.append((process, here))

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], timeout: float = _TIMEOUT) -> list[Any]:
        """Call on all ranks and wait for them."""
        for _, connection in self._ranks:
            connection.send_bytes(pickle.dumps((function, args)))
        return self._collect(time.monotonic() + timeout, timeout)

    def kill(self) -> None:
        """End all processes at once."""
        for process, _ in self._ranks:
            process.kill()
            process.join()
        self._folder.cleanup()

    def _collect(self, deadline: float, timeout: float) -> list[Any]:
        results: dict[int, Any] = {}
        size = len(self._ranks)
        while len(results) < size:
            for rank, (process, connection) in enumerate(self._ranks):
                if rank in results or not connection.poll(0.02):
                    continue
                try:
                    succeeded, results[rank] = pickle.loads(connection.recv_bytes())  # noqa: S301 (our own child's)
                except (EOFError, ConnectionResetError):
                    process.join()
                    succeeded, results[rank] = False, f"died without a word, exit code {process.exitcode}"
                if not succeeded:
                    # One rank's failure leaves the others waiting in a collective call: say what happened first.
                    pytest.fail(f"rank {rank} of {size}: {results[rank]}", pytrace=False)
            if time.monotonic() > deadline:
                hanging = sorted(set(range(size)) - results.keys())
                pytest.fail(f"ranks {hanging} of {size} did not finish in {timeout} s", pytrace=False)
        return [results[rank] for rank in range(size)]


def _rank(rank: int, local_rank: int, world_size: int, store: str, connection: Connection) -> None:
    # Which address DeepSpeed would look up; the store is a file, so nothing listens there.
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29500")
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(world_size))
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:  # the tests are over
            os._exit(0)
        try:
            function, args = pickle.loads(message)  # noqa: S301 (our own parent's)
            # Plain bytes: a tensor's memory sent as a file descriptor is gone with its process.
            outcome = pickle.dumps((True, function(*args)))
        except BaseException:
            outcome = pickle.dumps((False, traceback.format_exc()))
        connection.send_bytes(outcome)
