"""How a run is asked to save or to stop: by a signal to a rank, a file STOP in its folder, or whoever launched it."""

from __future__ import annotations

import fcntl
import signal
import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist

from data_shards.stop_requests import on_every_request
from spe_dist.engine.world import World
from spe_dist.train.run_lock import LOCK

STOP_FILE = "STOP"


class Ask(IntEnum):
    """What is asked of a run after a step; of several, the largest counts."""

    NOTHING = 0
    SAVE = 1
    STOP = 2
    """Save, then end."""


def nothing_asked() -> Ask:
    """The launcher asks for nothing: nobody does but signals and the file."""
    return Ask.NOTHING


def remove_stale_stop_file(folder: Path) -> None:
    """Remove what a run has left that ended before it could obey; the file of a run that goes on is for that run."""
    if not (folder / STOP_FILE).exists():
        return
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:  # a file system without locks
            pass
        (folder / STOP_FILE).unlink(missing_ok=True)


class StopSignal:
    """What any rank was asked for; all ranks hear of it at the same step.

    SIGTERM, SIGINT, SIGHUP and SIGUSR1 to a rank mean STOP, however many of them come: torchrun passes on what it is
    sent, also Ctrl-C and that its terminal is closed.

    Args:
        folder: where the first rank looks for the STOP file.
        world: this rank among all.
        asked_by_launcher: looked at once per step on every rank; must not wait.
    """

    def __init__(self, folder: Path, world: World, *, asked_by_launcher: Callable[[], Ask] = nothing_asked) -> None:
        self._file = folder / STOP_FILE
        self._world = world
        self._asked_by_launcher = asked_by_launcher
        self._signalled = False
        self._flag = torch.zeros(1)
        self._pending: dist.Work | None = None
        # Flags travel on the host: asking a GPU for them would make every step wait for it.
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        if threading.current_thread() is threading.main_thread():  # Ray runs ranks in a thread, where this is forbidden
            on_every_request(self._on_signal)
            signal.signal(signal.SIGUSR1, self._on_signal)

    def poll(self) -> Ask:
        """What to do now. Every rank must call this once per step; the answer is one step old, and never waits."""
        if self._pending is not None:
            self._pending.wait()
        answer = Ask(int(self._flag))
        self._flag = torch.tensor([float(self._asked_here())])
        if self._group is not None:
            self._pending = dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return answer

    def obeyed(self) -> None:
        """The run has saved and stops: the next one shall not stop for the same reason."""
        if self._world.is_first:
            self._file.unlink(missing_ok=True)

    def _asked_here(self) -> Ask:
        if self._signalled or (self._world.is_first and self._file.exists()):
            return Ask.STOP
        return self._asked_by_launcher()

    def _on_signal(self, number: int, frame: FrameType | None = None) -> None:
        self._signalled = True
