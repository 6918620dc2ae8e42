"""The paper's masks on 10,000 real sentences; the released program has none of them exact.

SPE_DIST_REAL_SHARDS names a folder that `spe shards build` made of real text; `pytest --junitxml=FILE
-o junit_family=xunit1` writes the figures down.
"""

import os
from collections import Counter
from itertools import pairwise
from math import ceil

import numpy as np
import pytest

from data_shards.shards.reader import ShardReader
from spe_dist.methods.spe.collate import build_collate
from spe_dist.recipe import load_recipe
from tests.paper.tiny_spe import RECIPES
from tests.unit.spe_dist.batches.sentences import excess, flat, sentences_of, texts_of_classes

SHARDS = os.environ.get("SPE_DIST_REAL_SHARDS", "")
COUNT = 10_000
MASS = [0.2 * 0.8 ** (length - 1) for length in range(1, 11)]
LENGTHS = [mass / sum(MASS) for mass in MASS]

pytestmark = pytest.mark.skipif(not SHARDS, reason="SPE_DIST_REAL_SHARDS names no folder of shards of real text")


@pytest.fixture(scope="module")
def drawn():
    """COUNT sentences from all over the dataset as they were, as drawn, and the batch made of them."""
    reader = ShardReader(SHARDS)
    config = load_recipe(RECIPES / "spe_wiki.yaml")
    collate = build_collate(config, reader.manifest)
    lane_size = config.batch.lane_size
    ids = np.random.default_rng(0).choice(len(reader), COUNT, replace=False)
    lanes = range(COUNT // lane_size)
    records = reader.take(ids)
    sample = collate.draw(records, 0, lanes)
    batch = collate(records, ids.reshape(-1, lane_size), 0, lanes)
    return sentences_of(records), sample, batch, collate.special


def sequences_of(batch):
    ids, starts = batch.packed.piece_ids.tolist(), batch.packed.sequence_starts.tolist()
    sequences = [ids[start:end] for start, end in pairwise(starts)]
    return list(zip(sequences[:COUNT], sequences[COUNT:], strict=True))


def hidden_of_records(sample):
    """TBO's hidden pieces of every record, counted from its first piece."""
    ends = sample.records.pieces.offsets[1:]
    hidden = [set() for _ in range(COUNT)]
    for piece in sample.hidden.pieces.tolist():
        record = int(np.searchsorted(ends, piece, side="right"))
        hidden[record].add(piece - int(sample.records.pieces.offsets[record]))
    return hidden


def test_each_view_shows_exactly_its_pieces(drawn, record_property):
    _, sample, batch, special = drawn
    sentences, rows, hidden = sentences_of(sample.records), sample.word_boundaries.tolist(), hidden_of_records(sample)
    pieces = differences = 0
    for sentence, (_, a, b, c, d, _), hide, (pair, context) in zip(
        sentences, rows, hidden, sequences_of(batch), strict=True
    ):
        expected_pair, expected_context, position = [special.cls], [special.cls], 0
        for number, word in enumerate(sentence):
            in_pair = a <= number < b or c <= number < d
            for piece in word:
                shown = special.mask if position in hide else piece
                expected_pair.append(shown if in_pair else special.mask)
                expected_context.append(special.mask if in_pair else shown)
                position += 1
        expected_pair.append(special.sep)
        expected_context.append(special.sep)
        assert len(pair) == len(context) == len(expected_pair)
        pieces += len(pair) + len(context)
        differences += sum(one != other for one, other in zip(pair, expected_pair, strict=True))
        differences += sum(one != other for one, other in zip(context, expected_context, strict=True))
    record_property("pieces_in_both_views", pieces)
    record_property("differences", differences)
    assert differences == 0


def test_tbo_hides_what_is_available_up_to_the_budget(drawn, record_property):
    _, sample, _, _ = drawn
    counts = []
    for sentence, hide in zip(sentences_of(sample.records), hidden_of_records(sample), strict=True):
        available = sum(len(word) - 1 for word in sentence)
        # 15 pieces in 100, in whole numbers: 3 in 20
        assert len(hide) == min(available, 20, ceil(3 * len(flat(sentence)) / 20))
        counts.append(len(hide))
    record_property("hidden_pieces", sum(counts))
    record_property("sentences_without_target", counts.count(0) / COUNT)
    record_property("hidden_pieces_histogram", sorted(Counter(counts).items()))


def test_span_lengths_are_truncated_geometric(drawn, record_property):
    _, sample, _, _ = drawn
    bounds = sample.word_boundaries
    pairs = bounds[bounds[:, 5] >= 20][:, [1, 2, 3, 4]].tolist()  # every pair of lengths fits
    lengths = Counter(end - start for a, b, c, d in pairs for start, end in ((a, b), (c, d)))
    histogram = [lengths[length] / (2 * len(pairs)) for length in range(1, 11)]
    record_property("sentences_of_20_or_more_words", len(pairs))
    record_property("span_lengths", [round(share, 4) for share in histogram])
    record_property("expected", [round(share, 4) for share in LENGTHS])
    assert lengths.total() == 2 * len(pairs) == sum(lengths[length] for length in range(1, 11))
    assert excess([lengths[length] for length in range(1, 11)], [2 * len(pairs) * p for p in LENGTHS]) < 4


def test_permutations_stand_in_the_text_and_their_classes_are_uniform(drawn, record_property):
    originals, sample, _, _ = drawn
    after, bounds = sentences_of(sample.records), sample.word_boundaries.tolist()
    permuted = sample.permuted
    classes, all_distinct = Counter(), Counter()
    for record, span, number in zip(permuted.records.tolist(), permuted.spans.tolist(), permuted.classes, strict=True):
        start, end = bounds[record][span : span + 2]
        texts = texts_of_classes(originals[record][start:end])
        assert after[record][start:end] == texts[number]
        pieces = [flat(text) for text in texts]
        assert pieces[number] not in pieces[:number]
        classes[int(number)] += 1
        if len({tuple(text) for text in pieces}) == 6:
            all_distinct[int(number)] += 1
    record_property("permuted_spans_per_sentence", classes.total() / COUNT)
    record_property("classes", sorted(classes.items()))
    record_property("spans_with_equal_texts", classes.total() - all_distinct.total())
    assert excess([all_distinct[number] for number in range(6)], [all_distinct.total() / 6] * 6) < 4
