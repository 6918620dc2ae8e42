import os
import time

import pytest
import torch.distributed as dist

from spe_dist.engine.world import World
from tests.distributed.ranks import run_ranks

pytestmark = pytest.mark.distributed


def gather(item):
    world = World.from_environment()
    world.barrier()
    return world.rank, world.all_gather_objects((world.rank, item)), world.broadcast_object(world.rank)


def test_ranks_talk_and_their_results_come_back_in_order():
    everyone = [(0, "x"), (1, "x")]
    assert run_ranks(gather, 2, "x", timeout=60) == [(0, everyone, 0), (1, everyone, 0)]


def fail_on_rank_1():
    if dist.get_rank() == 1:
        raise ValueError("only here")
    dist.barrier()


def die_on_rank_0():
    if dist.get_rank() == 0:
        os._exit(7)
    dist.barrier()


def hang_on_rank_1():
    if dist.get_rank() == 1:
        time.sleep(600)


@pytest.mark.parametrize(
    ("function", "timeout", "message"),
    [
        (fail_on_rank_1, 60, r"(?s)rank 1 of 2: .*ValueError: only here"),
        (die_on_rank_0, 60, "rank 0 of 2: died without a word, exit code 7|rank 1 of 2: .*"),
        (hang_on_rank_1, 8, r"ranks \[(0, )?1\] of 2 did not finish in 8 s"),
    ],
)
def test_a_rank_that_fails_dies_or_hangs_fails_the_test(function, timeout, message):
    started = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=message):
        run_ranks(function, 2, timeout=timeout)
    assert time.monotonic() - started < 30
