"""Whole runs whose ranks are forked from a process that has imported everything: seconds per kill, not tens of them."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from spe_dist.train.start_times import read_starts
from tests.faults.trials import Injected, inject, last_step
from tests.forked import forking_context

_GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL for the ranks that are left, as launchers give
_ATTEMPT_SECONDS = 300.0
_KILLED_WHILE_STARTING = 0.25  # share of the kills


class ForkedRuns:
    """Starts runs, kills their ranks at random instants, and starts them again as another number of ranks.

    Args:
        chooser: of victims, instants and world sizes.
        worlds: numbers of ranks.
    """

    def __init__(self, chooser: random.Random, *, worlds: Sequence[int] = (1, 2, 3)) -> None:
        self._chooser, self._worlds = chooser, worlds
        self._context = forking_context()
        self._start_seconds = 2.0  # of an attempt until its first step; measured as we go

    def complete(self, config: Any, *, kills: int) -> list[Injected]:
        """Run to the end, through so many kills, or fewer if the end comes before.

        Raises:
            AssertionError: a rank ended with an error that nobody caused, or did not end.
        """
        faults: list[Injected] = []
        while True:
            ranks = start_ranks(self._context, config, self._chooser.choice(self._worlds))
            began = time.monotonic()
            if len(faults) < kills and self._wait_for_a_random_instant(config, ranks):
                victims = ranks if self._chooser.random() < 0.25 else [self._chooser.choice(ranks)]
                faults.append(
                    inject(Path(config.run_folder), lambda victims=victims: [rank.kill() for rank in victims])
                )
                end_all(ranks)
                continue
            for rank in ranks:
                rank.join(max(0.0, began + _ATTEMPT_SECONDS - time.monotonic()))
            ended = [rank.exitcode for rank in ranks]
            end_all(ranks)
            assert set(ended) == {0}, f"ranks that nobody killed ended with {ended}; see {config.run_folder}/logs"
            return faults

    def _wait_for_a_random_instant(self, config: Any, ranks: list[BaseProcess]) -> bool:
        """False if the run ended before."""
        folder = Path(config.run_folder)
        began, starts = time.monotonic(), len(read_starts(folder))
        if self._chooser.random() < _KILLED_WHILE_STARTING:
            time.sleep(self._chooser.uniform(0, self._start_seconds))
            return True
        if not _wait(lambda: len(read_starts(folder)) > starts, ranks):
            return False
        self._start_seconds = time.monotonic() - began
        last = last_step(folder) + self._chooser.randint(0, config.train.checkpoint_every + 2)
        if not _wait(lambda: last_step(folder) >= last, ranks):
            return False
        time.sleep(self._chooser.uniform(0, 0.3))
        return all(rank.is_alive() for rank in ranks)


def start_ranks(context: ForkServerContext, config: Any, world_size: int) -> list[BaseProcess]:
    """Start a run, or go on with it; processes in rank order."""
    folder = Path(config.run_folder)
    folder.mkdir(parents=True, exist_ok=True)
    meeting = folder / f"meeting-{time.time_ns()}"
    ranks = [context.Process(target=_rank, args=(rank, world_size, meeting, config)) for rank in range(world_size)]
    for rank in ranks:
        rank.start()
    return list(ranks)


def end_all(ranks: Sequence[BaseProcess]) -> None:
    """As launchers do when one rank has died: ask the others to end, and end them if they do not."""
    for rank in ranks:
        if rank.is_alive():
            rank.terminate()
    end = time.monotonic() + _GRACE_SECONDS
    for rank in ranks:
        rank.join(max(0.0, end - time.monotonic()))
        if rank.is_alive():
            rank.kill()
            rank.join()


def _rank(rank: int, world_size: int, meeting: Path, config: Any) -> None:
    import torch.distributed as dist

    from spe_dist.train.loop import train

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    place = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.dup2(os.open(f"{config.run_folder}/output-{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    train(config)


def _wait(condition: Any, ranks: list[BaseProcess]) -> bool:
    """Until something is so; False if a rank ends before."""
    while not condition():
        if not all(rank.is_alive() for rank in ranks):
            return False
        time.sleep(0.01)
    return True
