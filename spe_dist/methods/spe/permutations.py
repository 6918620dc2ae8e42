"""Span permutations (SPE paper): a span is cut into first word, words between and last word, reordered.

One of 6 orders is applied to the sentence in place, before the views are made, so every view and the key pass see it.
Classes are numbered as `itertools.permutations` lists them; class 0 is the identity. A class whose text a smaller class
gives too (as swapping two equal words) is never drawn: its label could not be told from the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged, concat_ranges
from data_shards.shards.record import Records
from spe_dist.batches.five_spans import NUM_SPANS
from spe_dist.batches.random_draws import FloatArray
from spe_dist.batches.unit_orders import distinct_orders, reordered_begins, unit_elements

CLASSES = np.array(list(permutations(range(3))))  # [6, 3]: the unit that stands at each place
NUM_CLASSES = len(CLASSES)
MIN_WORDS = 3  # shorter spans have no words between


@dataclass(frozen=True)
class PermutedSpans:
    """The Q permuted spans of a batch: `records` [Q], `spans` [Q] (0…4, see `batches/five_spans.py`), `classes` [Q]."""

    records: NDArray[np.int64]
    spans: NDArray[np.int64]
    classes: NDArray[np.int64]


_NONE = np.zeros(0, dtype=np.int64)
NOTHING_PERMUTED = PermutedSpans(_NONE, _NONE, _NONE)


def random_columns(max_spans: int) -> int:
    """Random numbers per record that `permute_spans` needs."""
    return NUM_SPANS + max_spans * NUM_CLASSES


def permute_spans(
    records: Records, word_boundaries: IntArray, uniforms: FloatArray, *, max_spans: int
) -> tuple[Records, PermutedSpans]:
    """Permute up to `max_spans` random spans of three or more words in every sentence.

    Args:
        records: the sentences.
        word_boundaries: their five spans, [records, 6].
        uniforms: random numbers in [0, 1), [records, random_columns(max_spans)].
        max_spans: spans permuted per sentence, at most.

    Returns:
        The permuted sentences and what was done to them.
    """
    rows, spans, slots = _choose_spans(word_boundaries, uniforms[:, :NUM_SPANS], max_spans)
    sentence_start = records.word_starts.offsets[rows]
    word_starts = sentence_start + word_boundaries[rows, spans]
    word_lengths = word_boundaries[rows, spans + 1] - word_boundaries[rows, spans]
    piece_lengths = records.pieces_per_word
    keys = uniforms[:, NUM_SPANS:].reshape(len(uniforms), max_spans, NUM_CLASSES)[rows, slots]
    distinct = _distinct_classes(records, piece_lengths, word_starts, word_lengths)
    classes = np.where(distinct, keys, np.inf).argmin(axis=1)
    source = _word_sources(len(records.word_starts.values), word_starts, word_lengths, classes)
    return _reorder_words(records, piece_lengths, source), PermutedSpans(rows, spans, classes)


def _choose_spans(
    word_boundaries: IntArray, uniforms: FloatArray, max_spans: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    long_enough = np.diff(word_boundaries, axis=1) >= MIN_WORDS
    order = np.argsort(np.where(long_enough, uniforms, np.inf), axis=1)[:, :max_spans]
    rows, slots = np.nonzero(np.take_along_axis(long_enough, order, axis=1))
    return rows, order[rows, slots], slots


def _distinct_classes(
    records: Records, piece_lengths: IntArray, word_starts: IntArray, word_lengths: IntArray
) -> NDArray[np.bool_]:
    """Whether no smaller class gives the same pieces, [Q, 6]."""
    first, last = piece_lengths[word_starts], piece_lengths[word_starts + word_lengths - 1]
    begins = records.first_pieces
    piece_starts = begins[word_starts]
    lengths = begins[word_starts + word_lengths - 1] + last - piece_starts
    pieces = Ragged.from_lengths(records.pieces.values[concat_ranges(piece_starts, lengths)], lengths)
    return distinct_orders(pieces, np.stack([first, lengths - first - last, last], axis=1), CLASSES)


def _word_sources(
    num_words: int, word_starts: IntArray, word_lengths: IntArray, classes: IntArray
) -> NDArray[np.int64]:
    """Word that stands at each place after the permutations, [words]."""
    ones = np.ones_like(word_lengths)
    unit_lengths = np.stack([ones, word_lengths - 2, ones], axis=1)
    begins = reordered_begins(unit_lengths, CLASSES)[np.arange(len(classes)), classes]
    span, unit, offset = unit_elements(unit_lengths)
    source = np.arange(num_words)
    source[word_starts[span] + begins[span, unit] + offset] = concat_ranges(word_starts, word_lengths)
    return source


def _reorder_words(records: Records, piece_lengths: IntArray, source: IntArray) -> Records:
    lengths = piece_lengths[source]
    pieces = records.pieces.values[concat_ranges(records.first_pieces[source], lengths)]
    starts = np.cumsum(lengths) - lengths
    relative = starts - np.repeat(records.pieces.offsets[:-1], records.word_starts.lengths)
    return Records(Ragged(pieces, records.pieces.offsets), Ragged(relative, records.word_starts.offsets))
