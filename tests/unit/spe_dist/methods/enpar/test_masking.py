from collections import Counter, defaultdict

import numpy as np
import pytest

from spe_dist.methods.enpar.masking import mask_entities
from tests.unit.spe_dist.batches.entity_sentences import random_records
from tests.unit.spe_dist.batches.sentences import flat

pytestmark = pytest.mark.any_version

MASK = 3


def masked(records, lanes, *, seed=0, mask=0.15, replace=0.05):
    uniforms = np.random.default_rng(seed).random((len(records.entities.values), 2))
    return mask_entities(records, lanes, uniforms, masked=mask, replaced=replace, mask_id=MASK), uniforms


def test_entities_are_masked_replaced_and_kept_as_an_oracle_of_lists_says():
    sentences, entities, records = random_records(2000, seed=1)
    lanes = np.arange(len(records)) // 8
    result, uniforms = masked(records, lanes, seed=2, mask=0.3, replace=0.3)
    texts_of = defaultdict(set)  # of each lane and shape
    for row, (sentence, given) in enumerate(zip(sentences, entities, strict=True)):
        for start, end, _ in given:
            words = sentence[start:end]
            texts_of[lanes[row], tuple(map(len, words))].add(tuple(flat(words)))
    number = offset = word = 0
    replaced = 0
    expected_hidden_pieces = []
    for row, (sentence, given) in enumerate(zip(sentences, entities, strict=True)):
        pieces = flat(sentence)
        shown = result.piece_ids[offset : offset + len(pieces)].tolist()
        untouched = set(range(len(pieces)))
        for start, end, kind in given:
            first = len(flat(sentence[:start]))
            last = first + len(flat(sentence[start:end]))
            before, after = tuple(pieces[first:last]), tuple(shown[first:last])
            assert (result.word_starts[number], result.word_ends[number]) == (word + start, word + end)
            assert result.types[number] == kind
            others = texts_of[lanes[row], tuple(map(len, sentence[start:end]))] - {before}
            chance = uniforms[number, 0]
            if chance < 0.3:
                assert result.hidden[number]
                assert set(after) == {MASK}
            elif chance < 0.6 and others:
                assert result.hidden[number]
                assert after in others
                replaced += 1
            else:
                assert not result.hidden[number]
                assert after == before
            if result.hidden[number]:
                expected_hidden_pieces += range(offset + first, offset + last)
            untouched -= set(range(first, last))
            number += 1
        assert all(shown[place] == pieces[place] for place in untouched)
        offset, word = offset + len(pieces), word + len(sentence)
    assert number == len(result.hidden)
    assert result.pieces.tolist() == expected_hidden_pieces
    assert replaced > 500


def test_every_other_entity_of_the_same_shape_replaces_with_the_same_chance():
    sentences, _, records = random_records(1, seed=3, least=9, longest=9, vocabulary=60_000)
    one_piece = [[[word[0]] for word in sentence] for sentence in sentences]
    rows = np.array([[i, i + 1, 0] for i in range(0, 8, 2)], dtype=np.uint16)  # four entities of one word
    from data_shards.ragged import Ragged
    from tests.unit.spe_dist.batches.sentences import records_of

    many = 20_000
    records = records_of(one_piece * many)

    records = records.with_layer("entities", Ragged.from_lengths(np.tile(rows, (many, 1)), np.full(many, 4)))
    result, _ = masked(records, np.arange(many), seed=4, mask=0.0, replace=1.0)
    assert result.hidden.all()
    shown = result.piece_ids.reshape(many, 9)[:, ::2][:, :4]
    originals = [one_piece[0][i][0] for i in range(0, 8, 2)]
    for place in range(4):
        counts = Counter(shown[:, place].tolist())
        others = [text for i, text in enumerate(originals) if i != place]
        assert set(counts) == set(others)
        assert all(abs(counts[text] - many / 3) < 5 * (many / 3) ** 0.5 for text in others)


def test_the_papers_shares():
    _, _, records = random_records(4000, seed=5, vocabulary=60_000)
    result, uniforms = masked(records, np.zeros(len(records), dtype=int), seed=6)
    share = float((uniforms[:, 0] < 0.15).mean())
    assert abs(share - 0.15) < 0.01
    whole = result.hidden.mean()
    assert 0.19 < whole < 0.205  # a few have no other entity of their shape


def test_a_lane_is_masked_the_same_whatever_is_beside_it():
    _, _, records = random_records(64, seed=7)
    lanes = np.arange(64) // 8
    uniforms = np.random.default_rng(8).random((len(records.entities.values), 2))
    together = mask_entities(records, lanes, uniforms, masked=0.3, replaced=0.5, mask_id=MASK)
    for lane in range(8):
        rows = np.flatnonzero(lanes == lane)
        first, last = records.entities.offsets[[rows[0], rows[-1] + 1]]
        part = records.take(rows)
        alone = mask_entities(part, lanes[rows], uniforms[first:last], masked=0.3, replaced=0.5, mask_id=MASK)
        begin, end = records.pieces.offsets[[rows[0], rows[-1] + 1]]
        assert together.piece_ids[begin:end].tolist() == alone.piece_ids.tolist()


def test_no_sentences():
    _, _, records = random_records(3, seed=9)
    nothing = records.take(np.zeros(0, dtype=int))
    result, _ = masked(nothing, np.zeros(0, dtype=int))
    assert len(result.piece_ids) == len(result.hidden) == len(result.pieces) == 0
