"""Ranks that train while they save: they agree on every save, and none of their messages meets one of the training."""

import signal
import time
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.distributed as dist

from data_shards.errors import UserError
from spe_dist.checkpoint.background import BackgroundSaver
from spe_dist.checkpoint.snapshot import HostBuffers, Snapshot
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World
from spe_dist.train.watchdog import watched
from tests.distributed.ranks import run_ranks
from tests.faults.small_disk import filled, mounted
from tests.forked import forking_context

pytestmark = pytest.mark.distributed


def open_saver(folder):
    world = World.from_environment()
    store = CheckpointStore(folder, keep_last=2, keep_every=0, world=world)
    return world, store, BackgroundSaver(store, world, most_failures=3, saved_step=0)


def snapshot(buffers, rank, tensor):
    return Snapshot({f"weight.{rank}": buffers.copy("weight", tensor)}, {})


def train_and_save(folder):
    world, store, saver = open_saver(folder)
    buffers, weight = HostBuffers(), torch.zeros(50_000)
    for step in range(1, 201):
        weight += 1
        total = torch.full((1000,), float(step))
        dist.all_reduce(total)
        assert torch.equal(total, torch.full((1000,), float(world.size * step)))
        if step % 10 == 0:
            saver.save(step, partial(snapshot, buffers, world.rank, weight), required=step == 200)
    loaded = store.latest()
    return loaded.step, [float(loaded.get(f"weight.{rank}").unique()) for rank in range(world.size)]


def test_saving_and_training_do_not_disturb_each_other(tmp_path):
    assert run_ranks(train_and_save, 2, tmp_path / "run", timeout=60) == [(200, [200.0, 200.0])] * 2


def save_until_it_fails(folder):
    """Rank 1's share does not fit; rank 0's does."""
    world, store, saver = open_saver(folder)
    buffers = HostBuffers()

    def save(step, size):
        tensor = torch.zeros(10 if world.is_first else size)
        saver.save(step, lambda: snapshot(buffers, world.rank, tensor), required=False)

    save(1, 10)
    failures = []
    for step in (2, 3):
        save(step, 100_000)
        saver._wait()
        failures.append(saver.failures)
    save(4, 10)
    saver._wait()
    failures.append(saver.failures)
    for step in (5, 6):
        save(step, 100_000)
    with pytest.raises(UserError) as error:
        save(7, 100_000)
    return failures, str(error.value), store.latest().step


def test_all_ranks_go_on_after_a_failure_and_all_end_after_three(tmp_path):
    with mounted(tmp_path / "disk", 300) as disk, filled(disk, leaving_kilobytes=100):
        results = run_ranks(save_until_it_fails, 2, disk / "run", timeout=60)
    for failures, message, step in results:
        assert failures == [1, 2, 0]
        assert "is full (ENOSPC)" in message and "3 saves in a row have failed; the newest checkpoint" in message
        assert step == 4


class HarmedStore(CheckpointStore):
    """Of which rank 1 is harmed while it writes."""

    harm: Callable[[], None]

    def save(self, *args):
        if not self._world.is_first:
            self.harm()
        return super().save(*args)


def fail():
    raise ZeroDivisionError


def save_watched(rank, folder, harm):
    """Where a hang is a second without a sign of life."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    HarmedStore.harm = staticmethod(harm)
    world = World(rank, 2, rank)
    store = HarmedStore(folder / "run", keep_last=2, keep_every=0, world=world)
    saver = BackgroundSaver(store, world, most_failures=3, saved_step=0)
    with watched(folder / f"log-{rank}", seconds=1) as alive:
        alive()
        take = partial(snapshot, HostBuffers(), rank, torch.zeros(10))
        saver.save(1, take, required=True, while_waiting=alive)


@pytest.mark.parametrize(
    ("harm", "statuses"),
    [(partial(time.sleep, 2.5), [0, 0]), (partial(signal.raise_signal, signal.SIGSTOP), [1, None]), (fail, [1, 1])],
)
def test_a_slow_save_is_no_hang_but_a_stopped_or_failed_rank_is(tmp_path, harm, statuses):
    ranks = [forking_context().Process(target=save_watched, args=(rank, tmp_path, harm)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank, status in zip(ranks, statuses, strict=True):
        rank.join(60 if status is not None else 0)
    assert [rank.exitcode for rank in ranks] == statuses
    ranks[1].kill()
