"""Order, plan and loader together: the same stream of lanes, whoever computes it and wherever it starts."""

from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from data_shards.ragged import Ragged
from data_shards.shards.order import Order
from data_shards.shards.record import Records
from spe_dist.batches.loader import Steps, load_steps
from spe_dist.engine.batch_plan import BatchPlan

pytestmark = pytest.mark.any_version


class Reader:
    """Records that are their own ids."""

    def take(self, ids):
        return np.asarray(ids)


def collate(records, record_ids, step, lanes):
    assert np.array_equal(records, record_ids)
    return step, list(lanes), record_ids.tolist()


@settings(max_examples=300, deadline=None)
@given(
    shards=st.lists(st.integers(0, 80), min_size=1, max_size=8),
    lanes=st.integers(1, 9),
    lane_size=st.integers(1, 5),
    lanes_per_forward=st.integers(1, 10),
    world_size=st.integers(1, 9),
    first=st.integers(0, 10_000),
    seed=st.integers(0, 2**32),
)
def test_all_ranks_together_read_every_lane_of_every_step_once(
    shards, lanes, lane_size, lanes_per_forward, world_size, first, seed
):
    assume(sum(shards) >= lanes * lane_size)
    order = Order(tuple(shards), lanes, lane_size, seed=seed, window=16)
    if world_size > lanes:
        with pytest.raises(UserError, match="workers cannot share"):
            BatchPlan(lanes, lane_size, lanes_per_forward, world_size)
        return
    plan = BatchPlan(lanes, lane_size, lanes_per_forward, world_size)
    ranks = [
        list(load_steps(Steps(Reader(), order, collate, plan.forwards(rank)), first=first, last=first + 3, workers=0))
        for rank in range(world_size)
    ]
    for offset, forwards_of_ranks in enumerate(zip(*ranks, strict=True)):
        step = first + offset
        forwards = [forward for forwards in forwards_of_ranks for forward in forwards]
        assert len(forwards) == world_size * plan.accumulation
        assert {forward[0] for forward in forwards} == {step}
        assert all(len(forward[1]) <= lanes_per_forward for forward in forwards)
        assert [lane for _, of_forward, _ in forwards for lane in of_forward] == list(range(lanes))
        ids = [row for _, _, rows in forwards for row in rows]
        assert ids == order.record_ids(step, range(lanes)).tolist()


@pytest.mark.parametrize(("workers", "first"), [(1, 0), (2, 7)])
def test_loader_processes_change_nothing(workers, first):
    order = Order((50, 31, 19), lanes=4, lane_size=3, seed=5)
    steps = Steps(Reader(), order, collate, BatchPlan(4, 3, 2, world_size=2).forwards(1))
    here, there = (list(load_steps(steps, first=first, last=first + 10, workers=n)) for n in (0, workers))
    assert there == here
    assert len(here) == 10


class ReaderOfLengths:
    """Record i has i % 7 + 1 pieces, all of them its id."""

    def take(self, ids):
        ids = np.asarray(ids).reshape(-1)
        lengths = ids % 7 + 1
        return Records(Ragged.from_lengths(np.repeat(ids, lengths), lengths), Ragged.from_lengths(ids * 0, ids * 0 + 1))


def collate_rows(records, record_ids, step, lanes):
    assert [int(row[0]) for row in map(records.pieces.row, range(len(records)))] == record_ids.reshape(-1).tolist()
    return list(lanes), record_ids.tolist(), int((records.pieces.lengths + 2).sum())


@pytest.mark.parametrize(("world_size", "budget", "most_lanes"), [(1, 40, 9), (2, 25, 9), (3, 17, 2), (2, 1, 9)])
def test_forwards_cut_by_pieces_have_the_records_of_their_lanes_at_every_step(world_size, budget, most_lanes):
    order = Order((50, 31, 19), lanes=9, lane_size=2, seed=5)
    plan = BatchPlan(9, 2, most_lanes, world_size, budget)
    sizes = set()
    for step in range(6):
        read = []
        for rank in range(world_size):
            steps = Steps(ReaderOfLengths(), order, collate_rows, plan.forwards(rank), partial(plan.cut, rank))
            assert steps.nothing() == ([], [], 0)
            forwards = steps[step]
            sizes.add(len(forwards))
            for lanes, ids, pieces in forwards:
                assert len(lanes) == 1 or (pieces <= budget and len(lanes) <= most_lanes)
                assert ids == order.record_ids(step, lanes).tolist()
                read += lanes
        assert read == list(range(9))
    assert budget == 1 or len(sizes) > 1, "lengths decide"
