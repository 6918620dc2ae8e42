import itertools
from bisect import bisect_right

import numpy as np
import pytest
import torch

from spe_dist.methods.enpar.collate import choose_pairs
from tests.unit.spe_dist.batches.entity_sentences import build_collate, random_records
from tests.unit.spe_dist.batches.sentences import SPECIAL, flat, word_starts

LANE = 5


def unpacked(batch):
    """The sequences of a batch as lists of ids, and their words as packed word numbers."""
    starts = batch.packed.sequence_starts.tolist()
    ids = batch.packed.piece_ids.tolist()
    return [ids[a:b] for a, b in itertools.pairwise(starts)]


@pytest.fixture(scope="module")
def made():
    sentences, entities, records = random_records(400, seed=11)
    lanes = list(range(80))
    collate = build_collate(masked=0.3, replaced=0.3)
    ids = np.arange(400).reshape(80, LANE)
    return sentences, entities, collate.draw(records, 3, lanes), collate(records, ids, 3, lanes)


def test_sequences_are_sentences_perturbed_permuted_and_masked_copies(made):
    sentences, _, drawn, batch = made
    sequences = unpacked(batch)
    framed = [[SPECIAL.cls, *flat(sentence), SPECIAL.sep] for sentence in sentences]
    perturbed, permuted = len(drawn.perturbed.records), len(drawn.permuted.records)
    assert len(sequences) == 2 * len(sentences) + perturbed + permuted
    assert sequences[: len(sentences)] == framed
    for copies, records, first in (
        (drawn.perturbed, drawn.perturbed_records, len(sentences)),
        (drawn.permuted, drawn.permuted_records, len(sentences) + perturbed),
    ):
        for number, row in enumerate(copies.records.tolist()):
            expected = [SPECIAL.cls, *records.pieces.row(number).tolist(), SPECIAL.sep]
            assert sequences[first + number] == expected
            assert sorted(expected) == sorted(framed[row])
    masked = [piece for sequence in sequences[-len(sentences) :] for piece in sequence[1:-1]]
    assert masked == drawn.masked.piece_ids.tolist()
    assert batch.packed.longest == max(map(len, sequences))
    assert batch.packed.positions.tolist() == [place for sequence in sequences for place in range(len(sequence))]


class Reading:
    """Packed words read through `word_pieces`, as the model does."""

    def __init__(self, batch):
        self.ids, self.places = batch.packed.piece_ids.tolist(), batch.word_pieces.tolist()
        self.sequence_ends = batch.packed.sequence_starts[1:].tolist()

    def pieces(self, start, end):
        """Ids of packed words [start, end)."""
        if start == end:
            return []
        first = self.places[start]
        limit = self.sequence_ends[bisect_right(self.sequence_ends, first)] - 1
        last = self.places[end] if end < len(self.places) and self.places[end] < limit else limit
        return self.ids[first:last]


def test_the_five_spans_are_the_two_entities_and_what_is_around_them(made):
    sentences, entities, drawn, batch = made
    reading = Reading(batch)
    for row, sentence in enumerate(sentences):
        parts = [reading.pieces(a, b) for a, b in batch.word_spans[row].tolist()]
        a, b, c, d = drawn.word_boundaries[row, 1:5].tolist()
        assert {(a, b), (c, d)} <= {entity[:2] for entity in entities[row]}
        assert b <= c
        assert parts == [flat(sentence[x:y]) for x, y in itertools.pairwise([0, a, b, c, d, len(sentence)])]


def test_the_pair_keeps_its_pieces_in_every_copy(made):
    sentences, _, drawn, batch = made
    reading = Reading(batch)
    for first, copies in (
        (len(sentences), drawn.perturbed),
        (len(sentences) + len(drawn.perturbed.records), drawn.permuted),
    ):
        for number, row in enumerate(copies.records.tolist()):
            of_copy = [reading.pieces(*batch.word_spans[first + number, span].tolist()) for span in (1, 3)]
            of_original = [reading.pieces(*batch.word_spans[row, span].tolist()) for span in (1, 3)]
            assert sorted(of_copy) == sorted(of_original)


def test_targets_of_all_objectives(made):
    sentences, entities, drawn, batch = made
    perturbed = len(drawn.perturbed.records)
    assert batch.acd_originals.tolist() == drawn.perturbed.records.tolist()
    assert batch.acd_perturbed.tolist() == [len(sentences) + i for i in range(perturbed)]
    assert batch.pp_copies[: len(sentences)].tolist() == list(range(len(sentences)))
    assert batch.pp_classes[: len(sentences)].unique().tolist() == [0]
    assert batch.pp_copies[len(sentences) :].tolist() == [
        len(sentences) + perturbed + i for i in range(len(drawn.permuted.records))
    ]
    assert batch.pp_classes[len(sentences) :].tolist() == drawn.permuted.kinds.tolist()
    given = [entity for of_sentence in entities for entity in of_sentence]
    assert batch.met_types.tolist() == [kind for _, _, kind in given]
    texts = []
    for row, of_sentence in enumerate(entities):
        texts += [flat(sentences[row][start:end]) for start, end, _ in of_sentence]
    hidden_texts = [text for text, hidden in zip(texts, batch.met_hidden.tolist(), strict=True) if hidden]
    assert batch.mep_targets.tolist() == flat(hidden_texts)
    reading = Reading(batch)
    shown = [reading.pieces(*span) for span in batch.met_spans.tolist()]
    ids = batch.packed.piece_ids[batch.mep_pieces].tolist()
    assert ids == flat([text for text, hidden in zip(shown, batch.met_hidden.tolist(), strict=True) if hidden])
    for text, was, hidden in zip(shown, texts, batch.met_hidden.tolist(), strict=True):
        assert (text != was) == hidden
    assert batch.counts.tolist() == [len(given), len(batch.mep_targets), perturbed, len(batch.pp_classes)]


def test_word_pieces_are_first_pieces(made):
    sentences, _, _, batch = made
    starts = batch.packed.sequence_starts.tolist()
    expected = [starts[row] + 1 + place for row, sentence in enumerate(sentences) for place in word_starts(sentence)]
    assert batch.word_pieces[: len(expected)].tolist() == expected
    assert batch.unmasked_words + sum(map(len, sentences)) == len(batch.word_pieces)


@pytest.mark.parametrize("step", [0, 9])
def test_a_lane_is_the_same_alone_and_beside_others(step):
    _, _, records = random_records(40, seed=13)
    collate, ids = build_collate(), np.arange(40).reshape(8, LANE)
    together = collate(records, ids, step, list(range(8)))
    alone = [collate(records.take(ids[lane]), ids[lane : lane + 1], step, [lane]) for lane in range(8)]
    assert together.digests.tolist() == sum(batch.digests for batch in alone).tolist()
    assert together.counts.tolist() == sum(batch.counts for batch in alone).tolist()
    whole = sorted(map(tuple, unpacked(together)))
    assert whole == sorted(tuple(sequence) for batch in alone for sequence in unpacked(batch))


def test_digests_tell_steps_seeds_and_lanes_apart():
    _, _, records = random_records(LANE, seed=14)
    ids = np.arange(LANE).reshape(1, LANE)
    digests = [
        build_collate(seed=seed)(records, ids, step, [lane]).digests.tolist()
        for seed, step, lane in ((7, 0, 0), (8, 0, 0), (7, 1, 0), (7, 0, 1))
    ]
    assert len({masks for _, masks in digests}) == 4


@pytest.mark.parametrize(
    ("off", "kinds"),
    [
        ({"hide": False}, 3),
        ({"perturbed": 0}, 3),
        ({"permuted": 0, "identity": False}, 3),
        ({"perturbed": 0, "permuted": 0, "identity": False}, 1),
    ],
)
def test_what_no_objective_needs_is_not_encoded(off, kinds):
    _, _, records = random_records(LANE, seed=15)
    collate, ids = build_collate(**off), np.arange(LANE).reshape(1, LANE)
    batch, drawn = collate(records, ids, 0, [0]), collate.draw(records, 0, [0])
    sequences = len(batch.packed.sequence_starts) - 1
    copies = len(drawn.perturbed.records) + len(drawn.permuted.records)
    assert sequences == copies + LANE * (bool(kinds - 1) + (drawn.masked is not None))


def test_without_met_the_masked_copy_is_for_mep_alone():
    _, _, records = random_records(LANE, seed=15)
    ids = np.arange(LANE).reshape(1, LANE)
    with_met, without = (build_collate(typed=typed)(records, ids, 0, [0]) for typed in (True, False))
    assert len(with_met.met_types) > 0
    assert len(without.met_types) == len(without.met_spans) == int(without.counts[0]) == 0
    assert without.mep_pieces.tolist() == with_met.mep_pieces.tolist() != []


def test_no_lanes_give_a_batch_of_nothing():
    _, _, records = random_records(1, seed=16)
    batch = build_collate()(records.take(np.zeros(0, dtype=int)), np.zeros((0, LANE), dtype=int), 0, [])
    assert batch.counts.tolist() == [0, 0, 0, 0]
    assert batch.word_spans.shape == (0, 5, 2)
    assert batch.packed.sequence_starts.tolist() == [0]


def test_all_pairs_of_entities_have_the_same_chance():
    sentences, _, records = random_records(1, seed=17, least=20, longest=20)

    from data_shards.ragged import Ragged

    rows = np.array([[1, 2, 0], [4, 6, 0], [6, 7, 0], [19, 20, 0]], dtype=np.uint16)
    many = records.take(np.zeros(30_000, dtype=int))
    many = many.with_layer("entities", Ragged.from_lengths(np.tile(rows, (30_000, 1)), np.full(30_000, 4)))
    boundaries = choose_pairs(many, np.random.default_rng(18).random((30_000, 2)))
    pairs, counts = np.unique(boundaries, axis=0, return_counts=True)
    assert len(pairs) == 6
    assert np.all(np.abs(counts - 5000) < 5 * 5000**0.5)
    assert np.all(np.diff(pairs, axis=1) >= 0)
    assert torch.all(torch.from_numpy(pairs[:, 5]) == len(sentences[0]))
