"""Processes that save and are killed while they do: the real store, small tensors, one fork per kill.

Starting Python and importing torch takes seconds, so one process does it once, and forks ranks for every trial.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spe_dist.checkpoint.remote_folder import RemoteFolder
from spe_dist.checkpoint.storage_backends import ObjectStorage
from tests.unit.spe_dist.tiny_run import ROOT

KEEP_LAST, KEEP_EVERY = 2, 7
_HOOK = "SPE_DIST_KILL_HOOK"
_SURVIVORS_END_IN = 20.0  # seconds


@dataclass(frozen=True)
class Trial:
    """One save on some ranks, and who dies when.

    Args:
        folder: of the run's checkpoints.
        step: to save.
        world_size: ranks that save.
        victim: the rank that is killed; the others are left to themselves.
        at_point: killed right before its n-th change of the file system (see kill_at.c); 0 for never.
        after_seconds: killed so long after the save began; None for never.
        url: of the checkpoints, if ranks share no folder; each has one of its own then.
    """

    folder: str
    step: int
    world_size: int = 1
    victim: int = 0
    at_point: int = 0
    after_seconds: float | None = None
    url: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a trial went.

    Args:
        killed: whether the victim died by the kill; else the save was over before.
        points: changes of the file system that the victim made; 0 if it was killed.
        seconds: that the save took the victim; 0 if it was killed.
        saved: whether any rank said that the save was complete.
    """

    killed: bool
    points: int
    seconds: float
    saved: bool


def expected_tensors(step: int, rank: int) -> dict[str, Tensor]:
    """What a rank saves at a step; several files' worth of pages."""
    values = torch.arange(10_000, dtype=torch.float32) + 100_000 * step + 1_000_000 * rank
    return {f"weight.{rank}": values, f"step.{rank}": torch.tensor(step)}


def place_of(folder: str | Path, url: str | None, machine: int) -> Path | ObjectStorage:
    """Where a trial's checkpoints lie, as a rank of a machine sees it."""
    if url is None:
        return Path(folder)
    return ObjectStorage(RemoteFolder(url), Path(folder, f"machine-{machine}"), before_completing=lambda: None)


class Savers:
    """Runs trials, one after another."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def run(self, trial: Trial) -> Ended:
        """Run one."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(trial)) + "\n")
        self._process.stdin.flush()
        readable, _, _ = select.select([self._process.stdout], [], [], 120)
        assert readable, f"no answer within two minutes to {trial}"
        return Ended(**json.loads(self._process.stdout.readline()))


@contextmanager
def started_savers(folder: Path) -> Iterator[Savers]:
    """A process to run trials in; the test is skipped where there is no C compiler."""
    library = folder / "kill_at.so"
    source = Path(__file__).with_name("kill_at.c")
    try:
        built = subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no C compiler (cc), which builds what kills in the middle of a save")
    assert built.returncode == 0, built.stderr
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        _HOOK: str(library),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.savers"],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Savers(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def _serve() -> None:
    """What the process does: a line of JSON in, a line out."""
    import pyarrow.fs  # noqa: F401  (imported once, before the forks)

    import spe_dist.checkpoint.background  # noqa: F401

    for line in sys.stdin:
        sys.stdout.write(json.dumps(asdict(_run(Trial(**json.loads(line))))) + "\n")
        sys.stdout.flush()


def _run(trial: Trial) -> Ended:
    with tempfile.TemporaryDirectory() as meeting:
        return _run_ranks(trial, meeting)


def _run_ranks(trial: Trial, meeting: str) -> Ended:
    ranks = [_fork(trial, rank, meeting) for rank in range(trial.world_size)]
    victim, begun = ranks[trial.victim]
    if trial.after_seconds is not None:
        os.read(begun, 1)
        time.sleep(trial.after_seconds)
        os.kill(victim, signal.SIGKILL)
    statuses = [_wait_for(process) for process, _ in ranks]
    said = [_read_all(pipe) for _, pipe in ranks]
    killed = os.WIFSIGNALED(statuses[trial.victim]) and os.WTERMSIG(statuses[trial.victim]) == signal.SIGKILL
    about: dict[str, Any] = json.loads(said[trial.victim].rpartition(b"|")[2] or b"{}") if not killed else {}
    return Ended(killed, about.get("points", 0), about.get("seconds", 0.0), any(b"|" in words for words in said))


def _fork(trial: Trial, rank: int, meeting: str) -> tuple[int, int]:
    """A rank's process id, and a pipe that says `.` when the save begins, and `|` and what there was when it ended."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    try:
        _save_as_rank(trial, rank, meeting, writing)
        os._exit(0)
    except BaseException as error:  # a rank whose neighbour was killed ends like this
        os.write(2, f"rank {rank} of {trial}: {error!r}\n".encode()) if trial.world_size == 1 else None
        os._exit(1)


def _save_as_rank(trial: Trial, rank: int, meeting: str, pipe: int) -> None:
    import torch.distributed as dist

    from spe_dist.checkpoint.background import BackgroundSaver
    from spe_dist.checkpoint.snapshot import Snapshot
    from spe_dist.checkpoint.store import CheckpointStore
    from spe_dist.engine.world import World

    if trial.world_size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}/store", rank=rank, world_size=trial.world_size)
    world = World(rank, trial.world_size, 0 if trial.url else rank)
    store = CheckpointStore(
        place_of(trial.folder, trial.url, rank), keep_last=KEEP_LAST, keep_every=KEEP_EVERY, world=world
    )
    saver = BackgroundSaver(store, world, most_failures=3, saved_step=0)
    snapshot = Snapshot(expected_tensors(trial.step, rank), {"step": trial.step})
    world.barrier()
    hook = ctypes.CDLL(os.environ[_HOOK])
    os.write(pipe, b".")
    hook.kill_at(trial.at_point if rank == trial.victim else 0)
    started = time.perf_counter()
    saver.save(trial.step, lambda: snapshot, required=True)
    seconds, points = time.perf_counter() - started, hook.points_passed()
    os.write(pipe, b"|" + json.dumps({"points": points, "seconds": seconds}).encode())


def _wait_for(process: int) -> int:
    """The status of a process that ends by itself; one that hangs on a dead neighbour would be a fault of its own."""
    end = time.monotonic() + _SURVIVORS_END_IN
    while time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise AssertionError(f"a rank was still there {_SURVIVORS_END_IN} s after another was killed")


def _read_all(pipe: int) -> bytes:
    content = b""
    while part := os.read(pipe, 4096):
        content += part
    os.close(pipe)
    return content


if __name__ == "__main__":
    _serve()
