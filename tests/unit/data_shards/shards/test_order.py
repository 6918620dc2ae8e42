"""Which record is read when: properties over many datasets, worlds and starts."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from data_shards.shards.order import Order

pytestmark = pytest.mark.any_version


@st.composite
def orders(draw: st.DrawFn) -> Order:
    shards = tuple(draw(st.lists(st.integers(0, 60), min_size=1, max_size=12)))
    lanes, lane_size = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    assume(sum(shards) >= lanes * lane_size)
    fraction = draw(st.just(1.0) | st.floats(0.01, 1))
    assume(round(fraction * sum(shards)) >= lanes * lane_size)
    seed, window = draw(st.integers(0, 2**40)), draw(st.sampled_from([1, 3, 16, 4096]))
    return Order(shards, lanes, lane_size, seed=seed, window=window, fraction=fraction)


def ids_in_use(order: Order) -> set[int]:
    firsts = np.cumsum(order.shard_records) - order.shard_records
    pairs = zip(firsts, order.records_in_use, strict=True)
    return {int(id) for first, used in pairs for id in range(first, first + used)}


def all_lanes(order: Order, step: int) -> np.ndarray:
    return order.record_ids(step, range(order.lanes))


@settings(max_examples=300, deadline=None)
@given(orders(), st.integers(0, 50))
def test_an_epoch_reads_every_record_once_but_for_less_than_a_batch(order: Order, epoch: int) -> None:
    first = epoch * order.steps_per_epoch
    ids = np.concatenate([all_lanes(order, first + step).ravel() for step in range(order.steps_per_epoch)])
    assert len(np.unique(ids)) == len(ids)
    assert set(ids.tolist()) <= ids_in_use(order)
    assert order.records - len(ids) < order.lanes * order.lane_size


@settings(max_examples=200, deadline=None)
@given(orders(), st.floats(0.01, 1))
def test_a_fraction_is_whole_shards_but_for_one_and_lies_in_a_larger_fraction(order: Order, other: float) -> None:
    assert order.records == round(order.fraction * sum(order.shard_records))
    cut = [used for used, all in zip(order.records_in_use, order.shard_records, strict=True) if 0 < used < all]
    assert len(cut) <= 1
    assume(round(other * sum(order.shard_records)))
    smaller = replace(order, fraction=min(other, order.fraction), lanes=1, lane_size=1)
    assert ids_in_use(smaller) <= ids_in_use(order)


def test_seeds_choose_different_fractions_and_epochs_the_same() -> None:
    def used(seed: int, epoch: int) -> frozenset[int]:
        order = Order((10,) * 12, lanes=1, lane_size=10, seed=seed, window=1, fraction=0.25)
        assert order.steps_per_epoch == 3
        return frozenset(order.record_ids(epoch * 3 + step, [0])[0, 0] // 10 for step in range(3))

    assert all(len({used(seed, epoch) for epoch in range(4)}) == 1 for seed in range(8))
    assert len({used(seed, 0) for seed in range(8)}) > 4


@settings(max_examples=200, deadline=None)
@given(orders(), st.integers(0, 10**6), st.data())
def test_a_lane_is_the_same_whoever_asks(order: Order, step: int, data: st.DataObject) -> None:
    whole = all_lanes(order, step)
    asked = data.draw(st.lists(st.integers(0, order.lanes - 1), max_size=order.lanes))
    again = replace(order)
    assert np.array_equal(again.record_ids(step, asked), whole[asked])


@settings(max_examples=100, deadline=None)
@given(orders(), st.integers(0, 5))
def test_a_lane_stays_inside_its_stream(order: Order, epoch: int) -> None:
    """A lane's ids of an epoch, in reading order, come from neighbouring positions: it never leaves its window."""
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    unshuffled = replace(order, window=1)
    for lane in range(order.lanes):
        shuffled = np.concatenate([order.record_ids(step, [lane])[0] for step in steps])
        straight = np.concatenate([unshuffled.record_ids(step, [lane])[0] for step in steps])
        for start in range(0, len(straight), order.window):
            window = slice(start, start + order.window)
            assert sorted(shuffled[window]) == sorted(straight[window])


def test_epochs_permute_the_shards_differently_and_seeds_too() -> None:
    def shard_sequence(seed: int, epoch: int) -> tuple[int, ...]:
        order = Order((10,) * 12, lanes=1, lane_size=10, seed=seed, window=1)
        ids = [order.record_ids(epoch * 12 + step, [0])[0, 0] // 10 for step in range(12)]
        assert sorted(ids) == list(range(12))
        return tuple(ids)

    assert len({shard_sequence(seed, epoch) for seed in range(3) for epoch in range(10)}) == 30


def test_windows_are_shuffled_differently_by_epoch_lane_and_window() -> None:
    order = Order((240,), lanes=2, lane_size=20, seed=1, window=20)
    steps = range(10 * order.steps_per_epoch)
    shuffles = {tuple(ids - ids.min()) for step in steps for ids in order.record_ids(step, [0, 1])}
    assert len(shuffles) == 2 * len(steps)


def test_seeking_a_million_steps_ahead_costs_nothing() -> None:
    order = Order((100_000,) * 200, lanes=64, lane_size=8, seed=1)
    all_lanes(order, 0)
    started = time.perf_counter()
    far = all_lanes(order, 10**6)
    assert time.perf_counter() - started < 2
    walker = Order(order.shard_records, 64, 8, seed=1)
    epoch_start = 10**6 - 10**6 % order.steps_per_epoch
    walked = [all_lanes(walker, step) for step in (*range(epoch_start, epoch_start + 3), 10**6 - 1, 10**6)]
    assert np.array_equal(walked[-1], far)


def test_too_little_data_for_a_batch_is_refused() -> None:
    with pytest.raises(UserError, match="less than one global batch"):
        Order((3, 4), lanes=2, lane_size=4, seed=0)
    with pytest.raises(UserError, match=r"a fraction of 0\.1 of the dataset holds 10 records, less"):
        Order((50, 50), lanes=2, lane_size=6, seed=0, fraction=0.1)


@settings(max_examples=200, deadline=None)
@given(orders(), st.data())
def test_held_out_records_are_read_by_no_order_and_are_those_of_every_seed(order: Order, data: st.DataObject) -> None:
    batch, count = order.lanes * order.lane_size, sum(order.shard_records)
    assume(count >= 2 * batch)
    held_out = data.draw(st.integers(batch, count - batch))
    assume(round(order.fraction * (count - held_out)) >= batch)
    holding = replace(order, held_out=held_out)
    held = holding.held_out_ids()
    assert held.shape == (held_out // order.lane_size, order.lane_size)
    assert len(np.unique(held)) == held.size and not set(held.ravel().tolist()) & ids_in_use(holding)
    assert holding.records == round(order.fraction * (count - held_out))
    read = np.concatenate([all_lanes(holding, step).ravel() for step in range(holding.steps_per_epoch)])
    assert len(np.unique(read)) == len(read) and set(read.tolist()) <= ids_in_use(holding)
    assert np.array_equal(replace(holding, seed=order.seed + 1).held_out_ids(), held)


def test_held_out_records_are_the_last_ones_of_a_few_shards() -> None:
    held = Order((1000,) * 100, lanes=2, lane_size=8, seed=1, held_out=500).held_out_ids()
    shards, within = np.divmod(held.ravel(), 1000)
    assert len(np.unique(shards)) == 16 and within.min() >= 1000 - 32
    with pytest.raises(UserError, match=r"data\.held_out is 15 of 100000 records: it must be 0, or leave and hold "):
        Order((1000,) * 100, lanes=2, lane_size=8, seed=1, held_out=15)
