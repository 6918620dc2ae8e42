"""Spans and pairs of a batch as arrays, in whole-array steps: tags → spans → pairs → contexts, and their labels.

All sentences of a batch lie one after another, as in `batches/batch.py`: spans are half-open ranges of packed words,
[N, 2], and `word_offsets` [S + 1] says where each sentence begins. Spans are sorted by start, then end, and distinct,
wherever they are looked up in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, concat_ranges, offsets_from_lengths

Spans = NDArray[np.int64]

TAGS = ("O", "B", "I", "E", "U")
OUTSIDE, BEGIN, INSIDE, END, UNIT = range(len(TAGS))


def tag_words(spans: IntArray, num_words: int) -> NDArray[np.int64]:
    """The tag of every word.

    Args:
        spans: that do not overlap, [N, 2].
        num_words: W.

    Returns:
        [W], as in `TAGS`.
    """
    tags = np.full(num_words, OUTSIDE, dtype=np.int64)
    starts, ends = spans[:, 0], spans[:, 1]
    tags[concat_ranges(starts, ends - starts)] = INSIDE
    tags[starts], tags[ends - 1] = BEGIN, END
    tags[starts[ends - starts == 1]] = UNIT
    return tags


def decode_tags(tags: IntArray, word_offsets: IntArray) -> Spans:
    """The spans that tags mean, also where they do not follow the rules.

    Every word that is not O lies in exactly one span. B and U begin one, and so do I and E with nothing to go on with:
    after O, after E or U, and at the beginning of a sentence. A span ends with E or U, before the next one, before O
    and at the end of its sentence.

    Args:
        tags: tags of every word, [W].
        word_offsets: first word of every sentence, and W, [S + 1].

    Returns:
        [N, 2], sorted, without overlaps.
    """
    inside = tags != OUTSIDE
    sentence_begins = np.zeros(len(tags) + 1, dtype=bool)
    sentence_begins[word_offsets] = True
    before = np.concatenate([[OUTSIDE], tags[:-1]])[: len(tags)]
    begins = sentence_begins[:-1] | np.isin(tags, (BEGIN, UNIT)) | np.isin(before, (OUTSIDE, END, UNIT))
    begins &= inside
    stops = sentence_begins[1:] | np.concatenate([(~inside | begins)[1:], [True]])[: len(tags)]
    return np.stack([np.flatnonzero(begins), np.flatnonzero(inside & stops) + 1], axis=1)


def distinct_rows(*parts: IntArray) -> Spans:
    """The rows of all parts, each once, sorted, [N, 2]."""
    return np.unique(np.concatenate(parts), axis=0)


def places_of(rows: IntArray, among: IntArray) -> NDArray[np.int64]:
    """Where each row is found among others.

    Args:
        rows: not negative, [N, 2].
        among: sorted and distinct, [M, 2].

    Returns:
        Indices into `among`, -1 where a row is not there, [N].
    """
    scale = 1 + max(rows[:, 1].max(initial=0), among[:, 1].max(initial=0))
    keys, known = rows @ (scale, 1), among @ (scale, 1)
    places = np.searchsorted(known, keys)
    found = np.append(known, -1)[places] == keys
    return np.where(found, places, -1)


def labels_of(rows: IntArray, gold: IntArray, gold_labels: IntArray, *, none: int) -> NDArray[np.int64]:
    """The label of each row: that of the equal gold row, or `none`.

    Args:
        rows: spans, or pairs, [N, 2].
        gold: sorted and distinct, [G, 2].
        gold_labels: [G].
        none: label of rows that are not gold.
    """
    return np.append(gold_labels, none)[places_of(rows, gold)]  # -1 is the last


def sentences_of(spans: IntArray, word_offsets: IntArray) -> NDArray[np.int64]:
    """The sentence that each span lies in, [N]."""
    return np.searchsorted(word_offsets, spans[:, 0], side="right") - 1


def words_inside(spans: IntArray, num_words: int) -> tuple[NDArray[np.int64], Spans]:
    """The words that lie in some span, and the same spans counted in these words alone.

    Args:
        spans: [N, 2].
        num_words: W.
    """
    steps = np.bincount(spans[:, 0], minlength=num_words + 1) - np.bincount(spans[:, 1], minlength=num_words + 1)
    inside = steps[:-1].cumsum() > 0
    return np.flatnonzero(inside), offsets_from_lengths(inside.astype(np.int64))[spans]


def span_pairs(spans: IntArray, sentences: IntArray) -> NDArray[np.int64]:
    """All pairs of spans of one sentence of which the first ends before the second begins.

    Spans that overlap make no pair: pre-training knows none.

    Args:
        spans: sorted, [N, 2].
        sentences: sentences of each span, [N].

    Returns:
        Indices of first and second span, [M, 2], sorted.
    """
    numbers = np.arange(len(spans))
    followers = np.searchsorted(sentences, sentences, side="right") - numbers - 1
    pairs = np.stack([np.repeat(numbers, followers), concat_ranges(numbers + 1, followers)], axis=1)
    return pairs[spans[pairs[:, 0], 1] <= spans[pairs[:, 1], 0]]


@dataclass(frozen=True)
class ContextSpans:
    """What lies around pairs of spans; left of a pair is left of its first span, whatever the second is."""

    lefts: Spans  # [N, 2] from the beginning of the sentence to each span
    rights: Spans  # [N, 2] from each span to the end of the sentence
    middles: Spans  # [M, 2] between the spans of each pair

    @classmethod
    def of(cls, spans: IntArray, pairs: IntArray, word_offsets: IntArray) -> ContextSpans:
        """The contexts of all pairs.

        Args:
            spans: [N, 2].
            pairs: indices of first and second span, [M, 2].
            word_offsets: first word of every sentence, and W, [S + 1].
        """
        sentences = sentences_of(spans, word_offsets)
        return cls(
            lefts=np.stack([word_offsets[sentences], spans[:, 0]], axis=1),
            rights=np.stack([spans[:, 1], word_offsets[sentences + 1]], axis=1),
            middles=np.stack([spans[pairs[:, 0], 1], spans[pairs[:, 1], 0]], axis=1),
        )

    @property
    def all(self) -> Spans:
        """Lefts, rights and middles one after another, [2 N + M, 2]."""
        return np.concatenate([self.lefts, self.rights, self.middles])

    def rows_of(self, pairs: IntArray) -> NDArray[np.int64]:
        """Which rows of `all` are left, middle and right of each pair, [M, 3]."""
        spans = len(self.lefts)
        middles = 2 * spans + np.arange(len(pairs))
        return np.stack([pairs[:, 0], middles, spans + pairs[:, 1]], axis=1)
