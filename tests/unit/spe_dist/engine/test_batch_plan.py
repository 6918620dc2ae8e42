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


@st.composite
def budgets(draw):
    lanes = draw(st.integers(1, 40))
    return BatchPlan(
        lanes=lanes,
        lane_size=2,
        lanes_per_forward=draw(st.integers(1, 40)),
        world_size=draw(st.integers(1, lanes)),
        pieces_per_forward=draw(st.none() | st.integers(1, 300)),
    )


def fewest_forwards(pieces, most_lanes, most_pieces):
    """Of all ways to cut lanes: the last forward has some of them, the rest is cut as well as it can be."""
    fewest = [0]
    for end in range(1, len(pieces) + 1):
        starts = range(max(0, end - most_lanes), end)
        fewest.append(1 + min(fewest[i] for i in starts if i == end - 1 or sum(pieces[i:end]) <= most_pieces))
    return fewest[-1]


@settings(max_examples=500, deadline=None)
@given(budgets(), st.randoms(use_true_random=False))
def test_forwards_cut_by_pieces_are_few_within_the_budget_and_have_every_lane(plan, random):
    for rank in range(plan.world_size):
        mine = plan.lanes_of_rank(rank)
        pieces = [random.choice([1, 7, 40, 150]) for _ in mine]
        forwards = plan.cut(rank, pieces)
        assert [lane for lanes in forwards for lane in lanes] == list(mine)
        budget = plan.pieces_per_forward or sum(pieces)
        for lanes in forwards:
            assert 1 <= len(lanes) <= plan.lanes_per_forward
            assert len(lanes) == 1 or sum(pieces[lane - mine.start] for lane in lanes) <= budget
        assert len(forwards) == fewest_forwards(pieces, plan.lanes_per_forward, budget)
        assert len(forwards) >= -(-len(mine) // plan.lanes_per_forward)
        if plan.pieces_per_forward is None:
            assert forwards == [lanes for lanes in plan.forwards(rank) if lanes]


@pytest.mark.parametrize(("budget", "forwards"), [(None, 2), (1000, 2), (200, 4), (100, 8), (1, 8)])
def test_the_usual_number_of_forwards_is_that_of_lanes_of_mean_length(budget, forwards):
    plan = BatchPlan(lanes=16, lane_size=5, lanes_per_forward=4, world_size=2, pieces_per_forward=budget)
    assert plan.usual_accumulation(20.0) == forwards
