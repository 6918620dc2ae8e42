from itertools import pairwise

import numpy as np

from spe_dist.methods.spe.views import (
    CONTEXT_VIEW,
    PAIR_VIEW,
    pieces_in_pair,
    show_view,
    show_views,
    words_in_pair,
)
from tests.unit.spe_dist.batches.sentences import (
    SPECIAL,
    build_collate,
    flat,
    random_boundaries,
    random_sentences,
    records_of,
)


def views_by_loops(sentence, row):
    _, a, b, c, d, _ = row
    pair, context = [], []
    for number, word in enumerate(sentence):
        hidden = [SPECIAL.mask] * len(word)
        shown = a <= number < b or c <= number < d
        pair += word if shown else hidden
        context += hidden if shown else word
    return pair, context


def test_the_pair_view_shows_exactly_the_pieces_of_the_pair_and_the_context_view_the_rest():
    sentences = random_sentences(3000, seed=1)
    boundaries = random_boundaries(sentences, seed=2)
    records = records_of(sentences)
    pair, context = show_views(records.pieces.values, pieces_in_pair(records, boundaries), mask_id=SPECIAL.mask)
    expected = [views_by_loops(s, row) for s, row in zip(sentences, boundaries.tolist(), strict=True)]
    assert pair.tolist() == [piece for view, _ in expected for piece in view]
    assert context.tolist() == [piece for _, view in expected for piece in view]


def test_words_in_pair_are_those_inside_the_two_spans():
    records = records_of([[[4], [5, 6], [7], [8], [9, 9]]])
    assert words_in_pair(records, np.array([[0, 1, 2, 3, 4, 5]])).tolist() == [False, True, False, True, False]


def test_with_one_mask_for_a_span_what_is_hidden_leaves_no_trace_but_that_there_is_something():
    sentences = random_sentences(500, seed=4, longest=14)
    boundaries = random_boundaries(sentences, seed=5)
    others = random_sentences(2500, seed=6, longest=8)
    for view, shown_spans in ((PAIR_VIEW, (1, 3)), (CONTEXT_VIEW, (0, 2, 4))):
        changed, of_changed = [], []
        for number, (sentence, row) in enumerate(zip(sentences, boundaries.tolist(), strict=True)):
            spans = [
                sentence[a:b] if span in shown_spans or a == b else others[5 * number + span]
                for span, (a, b) in enumerate(pairwise(row))
            ]
            changed.append([word for span in spans for word in span])
            of_changed.append(np.cumsum([0, *map(len, spans)]))
        one, other = (shown(*given, view) for given in ((sentences, boundaries), (changed, np.array(of_changed))))
        for name in ("ids", "lengths", "first_pieces", "word_boundaries"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()
        assert one.lengths.tolist() != [len(flat(sentence)) for sentence in sentences]


def shown(sentences, boundaries, view):
    records = records_of(sentences)
    views = show_views(records.pieces.values, pieces_in_pair(records, boundaries), mask_id=SPECIAL.mask)
    return show_view(records, boundaries, views[view], view=view, mask_unit="span")


def test_sequences_keep_their_frame_and_length_and_each_piece_is_shown_in_one_view():
    sentences = random_sentences(200, seed=3)
    batch = build_collate(lane_size=200, tbo_share=0.0, spo_spans=0)(
        records_of(sentences), np.arange(200)[None], step=0, lanes=[0]
    )
    ids, starts = batch.packed.piece_ids.tolist(), batch.packed.sequence_starts.tolist()
    sequences = [ids[start:end] for start, end in pairwise(starts)]
    for sentence, pair, context in zip(sentences, sequences[:200], sequences[200:], strict=True):
        for view in (pair, context):
            assert (view[0], view[-1], len(view)) == (SPECIAL.cls, SPECIAL.sep, len(flat(sentence)) + 2)
        for piece, *shown in zip(flat(sentence), pair[1:-1], context[1:-1], strict=True):
            assert sorted(shown) == [SPECIAL.mask, piece]
