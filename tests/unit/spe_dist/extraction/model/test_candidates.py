"""Whole-array steps against loops over words, spans and pairs."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.ragged import offsets_from_lengths
from spe_dist.extraction.model.candidates import (
    OUTSIDE,
    TAGS,
    ContextSpans,
    decode_tags,
    distinct_rows,
    labels_of,
    places_of,
    sentences_of,
    span_pairs,
    tag_words,
    words_inside,
)

SENTENCES_OF_TAGS = st.lists(st.lists(st.sampled_from(range(len(TAGS))), max_size=9), max_size=4)


@st.composite
def sentences_with_spans(draw):
    """word_offsets, and distinct sorted spans that may overlap."""
    lengths = draw(st.lists(st.integers(0, 8), max_size=4))
    offsets = offsets_from_lengths(np.array(lengths, dtype=np.int64))
    spans = set()
    for first, length in zip(offsets, lengths, strict=False):
        for _ in range(draw(st.integers(0, 4)) if length else 0):
            start = draw(st.integers(0, length - 1))
            spans.add((int(first) + start, int(first) + draw(st.integers(start + 1, length))))
    return offsets, np.array(sorted(spans), dtype=np.int64).reshape(-1, 2)


def decode_word_by_word(tags: list[str]) -> list[tuple[int, int]]:
    spans, start = [], None
    for word, tag in enumerate(tags):
        if tag == "O" or tag in "BU":  # nothing goes on
            if start is not None:
                spans.append((start, word))
            start = None
        if tag != "O" and start is None:
            start = word
        if tag in "EU":
            spans.append((start, word + 1))
            start = None
    return spans if start is None else [*spans, (start, len(tags))]


def test_what_tags_mean():
    def decode(text):
        return decode_tags(np.array([TAGS.index(tag) for tag in text], dtype=np.int64), np.array([0, len(text)]))

    assert decode("OBIEOUU").tolist() == [[1, 4], [5, 6], [6, 7]]
    assert decode("IIOE").tolist() == [[0, 2], [3, 4]]
    assert decode("EEI").tolist() == [[0, 1], [1, 2], [2, 3]]
    assert decode("BBUI").tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert decode("").tolist() == []


@settings(deadline=None)
@given(SENTENCES_OF_TAGS)
def test_decoding_is_word_by_word_in_each_sentence(sentences):
    offsets = offsets_from_lengths(np.array([len(s) for s in sentences], dtype=np.int64))
    expected = [
        [start + first, end + first]
        for tags, first in zip(sentences, offsets.tolist(), strict=False)
        for start, end in decode_word_by_word([TAGS[tag] for tag in tags])
    ]
    tags = np.array([tag for sentence in sentences for tag in sentence], dtype=np.int64)
    decoded = decode_tags(tags, offsets)
    assert decoded.tolist() == expected
    covered = [word for start, end in decoded for word in range(start, end)]
    assert covered == np.flatnonzero(tags != OUTSIDE).tolist()


@settings(deadline=None)
@given(SENTENCES_OF_TAGS)
def test_tags_of_spans_mean_these_spans(sentences):
    offsets = offsets_from_lengths(np.array([len(s) for s in sentences], dtype=np.int64))
    spans = decode_tags(np.array([tag for sentence in sentences for tag in sentence], dtype=np.int64), offsets)
    assert decode_tags(tag_words(spans, int(offsets[-1])), offsets).tolist() == spans.tolist()


@settings(deadline=None)
@given(sentences_with_spans())
def test_pairs_are_all_that_do_not_overlap_in_order(drawn):
    offsets, spans = drawn
    sentences = sentences_of(spans, offsets)
    homes = [next(s for s in range(len(offsets) - 1) if offsets[s] <= a < offsets[s + 1]) for a, _ in spans]
    assert sentences.tolist() == homes
    expected = [
        [i, j]
        for i in range(len(spans))
        for j in range(len(spans))
        if homes[i] == homes[j] and spans[i][0] < spans[j][0] and spans[i][1] <= spans[j][0]
    ]
    assert span_pairs(spans, sentences).tolist() == expected


@settings(deadline=None)
@given(sentences_with_spans())
def test_five_spans_of_a_pair_cut_its_sentence(drawn):
    offsets, spans = drawn
    pairs = span_pairs(spans, sentences_of(spans, offsets))
    contexts = ContextSpans.of(spans, pairs, offsets)
    around = contexts.all[contexts.rows_of(pairs)]
    for (i, j), (left, middle, right) in zip(pairs, around.tolist(), strict=True):
        five = [left, spans[i].tolist(), middle, spans[j].tolist(), right]
        words = [word for start, end in five for word in range(start, end)]
        sentence = max(s for s in range(len(offsets) - 1) if offsets[s] <= spans[i][0])
        assert words == list(range(offsets[sentence], offsets[sentence + 1]))
        assert all(before[1] == after[0] for before, after in pairwise(five))


@settings(deadline=None)
@given(sentences_with_spans())
def test_words_in_no_span_are_passed_over(drawn):
    offsets, spans = drawn
    inside, counted = words_inside(spans, int(offsets[-1]))
    assert inside.tolist() == sorted({word for start, end in spans for word in range(start, end)})
    for (start, end), (first, last) in zip(spans, counted, strict=True):
        assert inside[first:last].tolist() == list(range(start, end))


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300)), max_size=8)


@settings(deadline=None)
@given(ROWS, ROWS)
def test_labels_are_looked_up_row_by_row(rows, others):
    asked, among = (np.array(r, dtype=np.int64).reshape(-1, 2) for r in (rows, others))
    gold = distinct_rows(among, among)
    assert gold.tolist() == sorted(map(list, set(others)))
    places = [gold.tolist().index(list(row)) if row in others else -1 for row in rows]
    assert places_of(asked, gold).tolist() == places
    labels = np.arange(len(gold)) + 10
    expected = [7 if place < 0 else 10 + place for place in places]
    assert labels_of(asked, gold, labels, none=7).tolist() == expected
