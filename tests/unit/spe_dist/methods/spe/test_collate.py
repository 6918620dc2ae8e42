"""A batch is packed by loops over lists and compared; then lanes: fused, alone, none."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
import torch

from spe_dist.methods.spe.config import TERMS
from tests.unit.spe_dist.batches.sentences import (
    SPECIAL,
    build_collate,
    flat,
    random_sentences,
    records_of,
    sentences_of,
    texts_of_classes,
    word_starts,
)

LANE_SIZE = 5
COLLATE = build_collate(lane_size=LANE_SIZE)
SENTENCES = {lane: random_sentences(LANE_SIZE, seed=lane) for lane in range(40)}
PAIR, CONTEXT, WHOLE = 0, 1, 2
SHOWN = [
    {"mask_unit": "piece", "whole_sentences": False},
    {"mask_unit": "span", "whole_sentences": False},
    {"mask_unit": "piece", "whole_sentences": True},
    {"mask_unit": "span", "whole_sentences": True},
    {"mask_unit": "span", "whole_sentences": True, "contrast": False},
]


@pytest.fixture(params=SHOWN, ids=lambda settings: "-".join(map(str, settings.values())))
def any_collate(request):
    return build_collate(lane_size=LANE_SIZE, **request.param)


def collate(lanes, *, step=3, ids=None, collate=COLLATE):
    records = records_of([sentence for lane in lanes for sentence in SENTENCES[lane]])
    ids = np.array([[lane * LANE_SIZE + i for i in range(LANE_SIZE)] for lane in lanes]) if ids is None else ids
    return collate(records, ids.reshape(len(lanes), LANE_SIZE), step, lanes)


def draw(lanes, *, step=3, collate=COLLATE):
    return collate.draw(records_of([sentence for lane in lanes for sentence in SENTENCES[lane]]), step, lanes)


def pack_by_loops(drawn, collate=COLLATE):
    """What the model gets, from the sentences as drawn."""
    sentences, rows = sentences_of(drawn.records), drawn.word_boundaries.tolist()
    spo = list(zip(drawn.permuted.records, drawn.permuted.spans, drawn.permuted.classes, strict=True))
    ends = np.cumsum([len(flat(sentence)) for sentence in sentences]).tolist()
    hidden = [
        (next(i for i, end in enumerate(ends) if piece < end), piece, anchor, offset)
        for piece, anchor, offset in zip(drawn.hidden.pieces, drawn.hidden.anchors, drawn.hidden.offsets, strict=True)
    ]
    ids, positions, starts, word_pieces, word_spans, tbo, words = [], [], [0], [], [], [], 0
    views = [PAIR, CONTEXT] * collate.contrast + [WHOLE] * collate.whole_sentences
    for view in views:
        for number, (sentence, row) in enumerate(zip(sentences, rows, strict=True)):
            shown, spans = [], []
            hidden_here = {piece - (ends[number] - len(flat(sentence))) for i, piece, _, _ in hidden if i == number}
            for span, (a, b) in enumerate(pairwise(row)):
                of_pair, spans_begin = span in (1, 3), words
                visible = view == WHOLE or of_pair == (view == PAIR)
                for i in range(a, b):
                    if not visible and collate.mask_unit == "span" and i > a:
                        continue
                    word, start = sentence[i], word_starts(sentence)[i]
                    word_pieces.append(starts[-1] + 1 + len(shown))
                    words += 1
                    for offset, piece in enumerate(word if visible or collate.mask_unit == "piece" else word[:1]):
                        if visible and start + offset in hidden_here and (view == WHOLE) == collate.whole_sentences:
                            tbo.append((word_pieces[-1], offset, piece, PAIR if of_pair else CONTEXT))
                        shown.append(piece if visible and start + offset not in hidden_here else SPECIAL.mask)
                spans.append([spans_begin, words])
            word_spans.append(spans)
            ids += [SPECIAL.cls, *shown, SPECIAL.sep]
            positions += range(len(shown) + 2)
            starts.append(len(ids))
    spo_items = []
    for number, span, kind in spo:
        view = PAIR if span in (1, 3) else CONTEXT
        read = views.index(WHOLE if collate.whole_sentences else view)
        spo_items.append(((number + read * len(sentences)) * 5 + span, kind, view))
    return ids, positions, starts, word_pieces, word_spans, tbo, spo_items


@pytest.mark.parametrize("lanes", [[0], [1, 2, 3], list(range(40))])
def test_a_batch_is_what_loops_over_sentences_pack(lanes, any_collate):
    batch = collate(lanes, collate=any_collate)
    drawn = draw(lanes, collate=any_collate)
    ids, positions, starts, word_pieces, word_spans, tbo, spo = pack_by_loops(drawn, any_collate)
    assert batch.packed.piece_ids.tolist() == ids
    assert batch.packed.positions.tolist() == positions
    assert batch.packed.sequence_starts.tolist() == starts
    assert batch.packed.sequence_starts.dtype == torch.int32
    assert batch.packed.longest == max(end - start for start, end in pairwise(starts))
    assert batch.word_pieces.tolist() == word_pieces
    assert batch.word_spans.tolist() == word_spans
    assert sorted(tbo_items(batch)) == sorted(tbo)
    assert sorted(spo_items(batch)) == sorted(spo)


def tbo_items(batch):
    columns = (batch.tbo_anchors, batch.tbo_offsets, batch.tbo_targets, batch.tbo_views)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def spo_items(batch):
    return list(zip(batch.spo_spans.tolist(), batch.spo_classes.tolist(), batch.spo_views.tolist(), strict=True))


def test_counts_are_the_items_of_each_term():
    batch = collate(list(range(40)))
    tbo, spo = batch.tbo_views.tolist(), batch.spo_views.tolist()
    expected = [tbo.count(PAIR), tbo.count(CONTEXT), spo.count(PAIR), spo.count(CONTEXT), 200]
    assert dict(zip(TERMS, batch.counts.tolist(), strict=True)) == {
        "tbo_pair": expected[0], "tbo_context": expected[1], "spo_pair": expected[2], "spo_context": expected[3],
        "cspo": expected[4],
    }  # fmt: skip
    assert min(expected) > 0


def test_spans_hold_the_permuted_words_of_the_original_sentence():
    lanes = list(range(40))
    drawn, batch = draw(lanes), collate(lanes)
    originals = [sentence for lane in lanes for sentence in SENTENCES[lane]]
    after = sentences_of(drawn.records)
    first_words = np.cumsum([0, *map(len, originals)])
    for span, number, view in spo_items(batch):
        sequence, place = divmod(span, 5)
        record = sequence - view * len(originals)
        start, end = (batch.word_spans[sequence, place] - first_words[record] - view * first_words[-1]).tolist()
        assert after[record][start:end] == texts_of_classes(originals[record][start:end])[number]
        assert view == (PAIR if place in (1, 3) else CONTEXT)


def test_a_hidden_piece_is_masked_in_both_views_and_its_anchor_is_seen_in_the_view_that_predicts_it():
    batch = collate(list(range(40)))
    ids, starts = batch.packed.piece_ids.tolist(), batch.packed.sequence_starts.tolist()
    for anchor, offset, target, view in tbo_items(batch):
        assert ids[anchor] >= 4
        assert ids[anchor + offset] == SPECIAL.mask != target
        other_view = anchor + (starts[200] if view == PAIR else -starts[200])
        assert ids[other_view] == ids[other_view + offset] == SPECIAL.mask


def test_the_views_of_a_batch_are_the_batch_without_whole_sentences():
    lanes = list(range(40))
    views, more = (
        collate(lanes, collate=build_collate(lane_size=LANE_SIZE, mask_unit="span", whole_sentences=whole))
        for whole in (False, True)
    )
    assert views.views is views
    cut, names = more.views, ("piece_ids", "positions", "sequence_starts", "longest")
    assert all(torch.equal(*(torch.as_tensor(getattr(b.packed, name)) for b in (cut, views))) for name in names)
    assert torch.equal(cut.word_pieces, views.word_pieces) and torch.equal(cut.word_spans, views.word_spans)
    assert cut.sizes.tolist() == views.sizes.tolist() != more.sizes.tolist()


def test_the_papers_batches_are_those_of_earlier_versions():
    """Figures of commit 0aa1c8a."""
    batch = collate([0, 1, 2])
    assert batch.digests.tolist() == [384312714895698, 222209488721296]
    assert (int(batch.packed.piece_ids.sum()), batch.counts.tolist()) == (6638, [44, 50, 14, 11, 15])


def test_what_is_drawn_does_not_depend_on_how_it_is_shown(any_collate):
    usual, other = draw([3, 4]), draw([3, 4], collate=any_collate)
    assert sentences_of(usual.records) == sentences_of(other.records)
    for name in ("word_boundaries", "in_pair"):
        assert getattr(usual, name).tolist() == getattr(other, name).tolist()
    assert usual.hidden.pieces.tolist() == other.hidden.pieces.tolist()
    assert usual.permuted.classes.tolist() == other.permuted.classes.tolist()
    digests = {
        tuple(collate([3, 4], collate=build_collate(lane_size=LANE_SIZE, **shown)).digests.tolist()) for shown in SHOWN
    }
    assert len(digests) == len(SHOWN) and len({records for records, _ in digests}) == 1


def per_record(batch):
    """A batch without packed coordinates: what each record looks like in each sequence."""
    starts = batch.packed.sequence_starts.tolist()
    num_records = len(batch.record_ids)
    words = batch.word_pieces.tolist()
    looks = []
    for sequence, (start, end) in enumerate(pairwise(starts)):
        looks.append({
            "ids": batch.packed.piece_ids[start:end].tolist(),
            "positions": batch.packed.positions[start:end].tolist(),
            "words": [word - start for word in words if start <= word < end],
            "spans": [
                [words[i] - start for i in range(begin, stop)] for begin, stop in batch.word_spans[sequence].tolist()
            ],
            "tbo": [(a - start, *rest) for a, *rest in tbo_items(batch) if start <= a < end],
            "spo": [(span % 5, *rest) for span, *rest in spo_items(batch) if span // 5 == sequence],
        })  # fmt: skip
    return [tuple(looks[record::num_records]) for record in range(num_records)]


@pytest.mark.parametrize("lanes", [[0, 1], [7, 8, 9, 10], [31, 4, 12]])
def test_fused_lanes_are_the_single_lanes_one_after_another(lanes, any_collate):
    fused = collate(lanes, collate=any_collate)
    alone = [collate([lane], collate=any_collate) for lane in lanes]
    assert per_record(fused) == [record for batch in alone for record in per_record(batch)]
    assert fused.counts.tolist() == sum(batch.counts for batch in alone).tolist()
    assert fused.digests.tolist() == sum(batch.digests for batch in alone).tolist()
    assert fused.record_ids.tolist() == [record for batch in alone for record in batch.record_ids.tolist()]


def same(one, other):
    def values(batch):
        tensors = [value for f in fields(batch) if isinstance(value := getattr(batch, f.name), torch.Tensor)]
        packed = [batch.packed.piece_ids, batch.packed.positions, batch.packed.sequence_starts]
        return [tensor.tolist() for tensor in (*tensors, *packed)], batch.packed.longest

    return values(one) == values(other)


def test_the_same_seed_step_and_lane_give_the_same_batch_and_others_do_not():
    assert same(collate([0]), collate([0]))
    assert not same(collate([0], step=4), collate([0]))
    assert not same(collate([0], collate=build_collate(lane_size=LANE_SIZE, seed=8)), collate([0]))
    records, ids = records_of(SENTENCES[0]), np.arange(LANE_SIZE)[None]
    assert not same(COLLATE(records, ids, 3, [1]), COLLATE(records, ids, 3, [0]))


def test_a_batch_does_not_depend_on_the_rank_that_makes_it(monkeypatch):
    here = collate([0, 1])
    monkeypatch.setenv("RANK", "1")
    assert same(collate([0, 1]), here)


def test_digests_tell_a_change_of_records_from_one_of_masks_and_permutations():
    records, ids = records_of(SENTENCES[0]), np.arange(LANE_SIZE)[None]
    same, others, later, elsewhere, unmasked, straight = (
        batch.digests.tolist()
        for batch in (
            COLLATE(records, ids, 3, [0]),
            COLLATE(records, ids + 1, 3, [0]),
            COLLATE(records, ids, 4, [0]),
            COLLATE(records, ids, 3, [1]),
            build_collate(lane_size=LANE_SIZE, tbo_share=0.0)(records, ids, 3, [0]),
            build_collate(lane_size=LANE_SIZE, spo_spans=0)(records, ids, 3, [0]),
        )
    )
    assert same == COLLATE(records, ids, 3, [0]).digests.tolist()
    assert others[0] != same[0] and others[1] == same[1]
    assert len({same[0], elsewhere[0]}) == 2  # a lane is part of it
    assert later[0] == unmasked[0] == straight[0] == same[0]
    assert len({same[1], later[1], elsewhere[1], unmasked[1], straight[1]}) == 5
    assert all(0 <= digest < 2**48 for digest in same)


def test_no_lanes_give_a_batch_of_no_records(any_collate):
    batch = collate([], collate=any_collate)
    assert batch.packed.piece_ids.shape == batch.packed.positions.shape == batch.word_pieces.shape == (0,)
    assert batch.packed.sequence_starts.tolist() == [0]
    assert batch.packed.longest == 0 and batch.digests.tolist() == [0, 0] and batch.record_ids.shape == (0,)
    assert batch.word_spans.shape == (0, 5, 2)
    assert batch.counts.tolist() == [0] * 5
    assert tbo_items(batch) == spo_items(batch) == []
    assert {getattr(batch, f.name).dtype for f in fields(batch) if f.name not in ("packed", "view_sizes")} == {
        torch.int64
    }


@pytest.mark.parametrize(("setting", "off"), [("tbo_share", [0, 1]), ("spo_spans", [2, 3])])
def test_an_objective_that_is_off_has_no_targets(setting, off):
    batch = collate([0, 1, 2], collate=build_collate(lane_size=LANE_SIZE, **{setting: 0}))
    assert [index for index, count in enumerate(batch.counts.tolist()) if count == 0] == off
