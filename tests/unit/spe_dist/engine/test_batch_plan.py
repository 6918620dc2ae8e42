import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from spe_dist.engine.batch_plan import BatchPlan


@st.composite
def plans(draw):
    lanes = draw(st.integers(1, 200))
    return BatchPlan(
        lanes=lanes,
        lane_size=draw(st.integers(1, 16)),
        lanes_per_forward=draw(st.integers(1, 20)),
        world_size=draw(st.integers(1, lanes)),
    )


@settings(max_examples=500, deadline=None)
@given(plans())
def test_every_lane_is_computed_once_in_order_by_ranks_that_make_equally_many_forwards(plan):
    forwards = [plan.forwards(rank) for rank in range(plan.world_size)]
    assert [lane for rank in forwards for lanes in rank for lane in lanes] == list(range(plan.lanes))
    assert {len(rank) for rank in forwards} == {plan.accumulation}
    assert max(len(lanes) for rank in forwards for lanes in rank) <= plan.lanes_per_forward
    assert all(rank[0] for rank in forwards), "every rank has something to do"
    # A is no larger than it must be: some rank fills its last forward.
    assert any(rank[-1] for rank in forwards)


@settings(max_examples=300, deadline=None)
@given(plans())
def test_a_rank_has_its_lanes_and_no_rank_has_two_more_than_another(plan):
    counts = [len(plan.lanes_of_rank(rank)) for rank in range(plan.world_size)]
    for rank in range(plan.world_size):
        assert [lane for lanes in plan.forwards(rank) for lane in lanes] == list(plan.lanes_of_rank(rank))
    assert max(counts) - min(counts) <= 1
    assert plan.global_batch == sum(counts) * plan.lane_size


def test_the_example_of_the_docstring():
    plan = BatchPlan(lanes=7, lane_size=4, lanes_per_forward=2, world_size=3)
    assert [plan.forwards(rank) for rank in range(3)] == [[(0, 1), ()], [(2, 3), ()], [(4, 5), (6,)]]


def test_more_workers_than_lanes_are_refused_with_both_numbers_and_the_setting():
    with pytest.raises(UserError, match=r"9 workers cannot share 8 lanes: raise batch\.lanes"):
        BatchPlan(lanes=8, lane_size=4, lanes_per_forward=1, world_size=9)
