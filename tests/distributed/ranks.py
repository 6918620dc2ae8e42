"""Run a function on several real processes that talk over gloo, and bring back what they return or raise."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

Pipes = list[tuple[BaseProcess, Connection]]


def run_ranks(function: Callable[..., Any], world_size: int, *args: Any, timeout: float = 240) -> list[Any]:
    """Call `function(*args)` on every rank; the process group is up when it starts.

    Args:
        function: at the top level of an importable module; results and arguments must pickle.
        world_size: number of processes.
        timeout: seconds for all of it; whoever still runs then is killed and the test fails.

    Returns:
        The results in rank order.
    """
    with tempfile.TemporaryDirectory() as folder, _environment(world_size):
        context = multiprocessing.get_context("spawn")
        ranks: Pipes = []
        for rank in range(world_size):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank, args=(function, rank, world_size, f"file://{folder}/store", sender, args), daemon=True
            )
            process.start()
            sender.close()
            ranks.append((process, receiver))
        try:
            return _collect(ranks, time.monotonic() + timeout, timeout)
        finally:
            for process, _ in ranks:
                process.kill()
                process.join()


def _collect(ranks: Pipes, deadline: float, timeout: float) -> list[Any]:
    results: dict[int, Any] = {}
    while len(results) < len(ranks):
        for rank, (process, receiver) in enumerate(ranks):
            if rank in results or not receiver.poll(0.02):
                continue
            try:
                succeeded, results[rank] = pickle.loads(receiver.recv_bytes())  # noqa: S301 (from our own child)
            except EOFError:
                process.join()
                succeeded, results[rank] = False, f"died without a word, exit code {process.exitcode}"
            if not succeeded:
                # One rank's failure leaves the others waiting in a collective call: say what happened first.
                pytest.fail(f"rank {rank} of {len(ranks)}: {results[rank]}", pytrace=False)
        if time.monotonic() > deadline:
            hanging = sorted(set(range(len(ranks))) - results.keys())
            pytest.fail(f"ranks {hanging} of {len(ranks)} did not finish in {timeout} s", pytrace=False)
    return [results[rank] for rank in range(len(ranks))]


@contextmanager
def _environment(world_size: int) -> Iterator[None]:
    """What children must find before they import anything."""
    settings = {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "WORLD_SIZE": str(world_size),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),  # pip's ninja
        # Which address DeepSpeed would look up; the store is a file, so nothing listens there.
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _rank(
    function: Callable[..., Any], rank: int, world_size: int, store: str, sender: Connection, args: tuple[Any, ...]
) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    try:
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
        outcome = (True, function(*args))
    except BaseException:
        outcome = (False, traceback.format_exc())
    # Plain bytes: a tensor's memory sent as a file descriptor is gone with its process.
    sender.send_bytes(pickle.dumps(outcome))
    # Stay until killed: whoever leaves first breaks the connections of the others, and their error would hide its own.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)
