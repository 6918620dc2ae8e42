"""The forward that is tried first, against forwards of drawn lengths."""

import numpy as np
import pytest

from data_shards.shards.manifest import Manifest, Shard, Statistics, TokenizerInfo
from data_shards.shards.record import TEXT_LAYERS
from data_shards.tokenizer.files import SpecialIds
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.train.rehearsal import largest_forwards, largest_records, most_pieces, most_records

LONGEST = 128


def dataset(*mean_pieces, records=10_000):
    """A manifest of shards whose records have so many pieces in the mean, [CLS] and [SEP] not counted."""
    shards = tuple(Shard(f"{i}.tar", 1, 0, records, 0, int(mean * records), "") for i, mean in enumerate(mean_pieces))
    tokenizer = TokenizerInfo("tokenizer", {}, "", 1500, True, SpecialIds(cls=2, sep=3, mask=4, pad=0, unk=1))
    return Manifest("made", shards, TEXT_LAYERS, 64, LONGEST, tokenizer, {}, Statistics())


def test_a_small_forward_may_hold_the_longest_sentences_only():
    assert most_pieces(8, dataset(18)) == 8 * LONGEST


def test_a_large_forward_needs_no_room_for_the_longest_only():
    assert most_pieces(2048, dataset(18)) < 2048 * LONGEST / 3


def test_no_forward_of_drawn_sentences_is_larger_however_their_lengths_spread():
    """Lengths of 2 and 126 pieces alone have the largest spread that there can be."""
    generator = np.random.default_rng(0)
    count = 512
    long = generator.random((5000, count)) < 0.15
    drawn = np.where(long, LONGEST, 4).sum(axis=1)
    assert drawn.max() < most_pieces(count, dataset(0.15 * 126 + 0.85 * 2)) < 2 * drawn.max()


def test_the_shard_with_the_longest_sentences_counts():
    assert most_pieces(2048, dataset(10, 30)) == most_pieces(2048, dataset(30))


@pytest.mark.parametrize("mean", [1, 18.3, 90])
@pytest.mark.parametrize("count", [0, 1, 8, 333, 2048])
def test_the_records_have_as_many_pieces_and_each_two_entities(count, mean):
    manifest = dataset(mean)
    records = largest_records(count, manifest)
    lengths = records.pieces.lengths + 2
    assert len(records) == count
    assert lengths.sum() >= most_pieces(count, manifest)
    assert not count or (lengths.max() <= LONGEST and records.entities.lengths.min() >= 2)


@pytest.mark.parametrize(("budget", "lanes_per_forward"), [(12_000, 256), (12_000, 64), (600, 256), (200_000, 256)])
def test_no_forward_cut_by_pieces_is_larger_than_the_one_that_is_tried(budget, lanes_per_forward):
    """Of 2,048 records a step: neither in pieces nor in records; and without the cut, it would be far larger."""
    plan = BatchPlan(256, 8, lanes_per_forward, world_size=1, pieces_per_forward=budget)
    manifest = dataset(18, 21)
    generator = np.random.default_rng(0)
    cut = []
    for _ in range(200):
        long = generator.random((256, 8)) < (18 - 14) / (LONGEST - 2 - 14)
        pieces = (2 + np.where(long, LONGEST - 2, 14)).sum(axis=1)
        cut += [(len(lanes), int(pieces[list(lanes)].sum())) for lanes in plan.cut(0, pieces.tolist())]
    (lanes, records), second = largest_forwards(plan, 0, manifest)
    tried = int((records.pieces.lengths + 2).sum())
    assert len(records) == len(lanes) * plan.lane_size == len(second[1])
    assert max(count for count, _ in cut) <= len(lanes) <= lanes_per_forward
    assert max(size for _, size in cut) <= tried
    assert all((forward.pieces.lengths + 2).sum() >= tried for forward in (records, second[1]))
    at_most = 1.02 if budget > 600 else 3.0  # of few pieces, the bound on records is loose, and none is very short
    assert tried < at_most * (budget + 8 * LONGEST) + LONGEST or tried == most_pieces(2048, manifest)
    uncut = largest_forwards(BatchPlan(256, 8, lanes_per_forward, world_size=1), 0, manifest)
    assert budget == 200_000 or tried < (records_of(uncut) if lanes_per_forward == 64 else records_of(uncut) / 4)


def records_of(forwards):
    return int((forwards[0][1].pieces.lengths + 2).sum())


def test_a_forward_of_given_pieces_has_fewer_records_than_the_bound_even_of_the_shortest_shard():
    manifest = dataset(6, 30)
    generator = np.random.default_rng(1)
    lengths = np.where(generator.random((300, 4000)) < 4 / 124, LONGEST, 4)  # a mean of 8 with [CLS] and [SEP]
    fitting = (lengths.cumsum(axis=1) <= 5000).sum(axis=1)
    assert fitting.max() <= most_records(5000, manifest) < 3 * fitting.max()
    assert most_records(30, manifest) == 10
