"""Markers and cuts against a slow reading of their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.text.word_pieces import WordPieces
from spe_dist.finetuning.batches_of_rows import batches_of_rows
from spe_dist.finetuning.kept_pieces import keep_around
from spe_dist.sentence_relations.marked_sentence import MarkedSentence
from spe_dist.sentence_relations.rows import encode
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

WORD_PIECES = WordPieces.load(str(DEBUG_VOCAB))
V = WORD_PIECES.vocab_size


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_what_stays_of_a_long_text(data):
    pieces, room = data.draw(st.integers(2, 30)), data.draw(st.integers(2, 30))
    cuts = sorted(data.draw(st.lists(st.integers(0, pieces), min_size=4, max_size=4)))
    spans = [(a, b) for a, b in (cuts[:2], cuts[2:]) if a < b]
    if not spans:
        return
    kept = keep_around(pieces, spans, room).tolist()
    assert kept == sorted(set(kept)) and len(kept) == min(pieces, room) and set(kept) <= set(range(pieces))
    inside = {p for a, b in spans for p in range(a, b)}
    between = set(range(min(a for a, _ in spans), max(b for _, b in spans)))
    if len(between) <= room:
        assert between <= set(kept) and (len(kept) == pieces or np.ptp(kept) == len(kept) - 1)  # one stretch
    elif len(inside) <= room:
        assert inside <= set(kept) <= between
    else:  # both keep their beginnings, about as many pieces
        shares = [sum(a <= p < b for p in kept) for a, b in spans]
        assert all(set(range(a, a + n)) <= set(kept) for (a, _), n in zip(spans, shares, strict=True))
        assert all(n >= min(b - a, room // len(spans)) for (a, b), n in zip(spans, shares, strict=True))


@pytest.mark.parametrize("inner", [(30, 31), (39, 40), (0, 1), (5, 30)])
def test_a_span_within_a_long_one_keeps_pieces(inner):
    outer = (0, 40)
    kept = keep_around(60, [inner, outer], 10).tolist()
    assert keep_around(60, [outer, inner], 10).tolist() == kept and len(kept) == 10
    assert inner[0] in kept and outer[0] in kept


def row(words, head, tail, max_pieces=100, pooling="mean"):
    rows = encode(
        [MarkedSentence("x", tuple(words.split()), head, tail, "r")], ("q", "r"), WORD_PIECES,
        max_pieces=max_pieces, pooling=pooling,
    )  # fmt: skip
    assert rows.classes.tolist() == [1]
    return rows.pieces.row(0).tolist(), rows.spans[0].tolist(), rows.is_cut.tolist()


def ids(text):
    return [WORD_PIECES.encode_words([word]).values.tolist() for word in text.split()]


@pytest.mark.parametrize(("head", "tail"), [((0, 2), (3, 4)), ((3, 4), (0, 2)), ((0, 2), (2, 3)), ((2, 4), (0, 2))])
def test_markers_are_around_both_entities(head, tail):
    words = "the town of Acme grew"
    per_word, expected, places = ids(words), [], {}
    for number, pieces in enumerate([*per_word, []]):
        for name, (_, end), marker in (("h", head, V + 1), ("t", tail, V + 3)):
            if end == number:
                places[name].append(len(expected))
                expected.append(marker)
        for name, (start, _), marker in (("h", head, V), ("t", tail, V + 2)):
            if start == number:
                expected.append(marker)
                places[name] = [len(expected)]
        expected += pieces
    found, pooled, is_cut = row(words, head, tail)
    assert (found, pooled, is_cut) == (expected, [places["h"], places["t"]], [False])
    _, starts, _ = row(words, head, tail, pooling="start_marker")
    assert [found[a:b] for a, b in starts] == [[V], [V + 2]]


def test_a_long_sentence_keeps_both_entities_and_an_entity_without_pieces_is_unknown():
    words = " ".join(["the"] * 60)
    pieces, ((a, b), (c, d)), is_cut = row(words, (2, 4), (50, 53), max_pieces=30)
    assert len(pieces) == 28 and is_cut == [True] and (b - a, d - c) == (2, 3)
    assert [pieces[i] for i in (a - 1, b, c - 1, d)] == [V, V + 1, V + 2, V + 3]
    pieces, ((a, b), _), _ = row("x \u200b y", (1, 2), (2, 3))
    assert pieces[a:b] == [WORD_PIECES.special_ids.unk]


def test_every_row_is_in_one_batch():
    lengths = np.random.default_rng(0).integers(1, 9000, 50)
    batches = list(batches_of_rows(lengths, batch_size=7))
    assert sorted(np.concatenate(batches).tolist()) == list(range(50))
    assert all(len(b) == 1 or len(b) * (lengths[b].max() + 2) <= 1 << 14 for b in batches)
