"""The forward that is tried first, against forwards of drawn lengths."""

import numpy as np
import pytest

from data_shards.shards.manifest import Manifest, Shard, Statistics, TokenizerInfo
from data_shards.shards.record import TEXT_LAYERS
from data_shards.tokenizer.files import SpecialIds
from spe_dist.train.rehearsal import largest_records, most_pieces

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
