"""How a run is asked to stop: SIGTERM or SIGUSR1 to a rank, or a file named STOP in its folder."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist

from spe_dist.engine.world import World

STOP_FILE = "STOP"


class StopSignal:
    """Whether any rank was asked to stop; all ranks hear of it at the same step.

    Args:
        folder: where the first rank looks for the STOP file.
        world: this rank among all.
    """

    def __init__(self, folder: Path, world: World) -> None:
        self._file = folder / STOP_FILE
        self._world = world
        self._asked = False
        self._flag = torch.zeros(1)
        self._pending: dist.Work | None = None
        # Flags travel on the host: asking a GPU for them would make every step wait for it.
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        if threading.current_thread() is threading.main_thread():  # Ray runs ranks in a thread, where this is forbidden
            for number in (signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, self._ask)

    def poll(self) -> bool:
        """Whether to stop now. Every rank must call this once per step; the answer is one step old, and never waits."""
        if self._pending is not None:
            self._pending.wait()
        stop = bool(self._flag)
        asked = self._asked or (self._world.is_first and self._file.exists())
        self._flag = torch.tensor([float(asked)])
        if self._group is not None:
            self._pending = dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return stop

    def obeyed(self) -> None:
        """The run has saved and stops: the next one shall not stop for the same reason."""
        if self._world.is_first:
            self._file.unlink(missing_ok=True)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
