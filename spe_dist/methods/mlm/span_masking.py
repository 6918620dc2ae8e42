"""Spans to predict (SpanBERT): whole words until a share of the pieces is hidden.

A span begins at a word that is not hidden yet, all of these with the same chance, and has a geometric number of words;
those already hidden count. The last span of a record is cut, maybe inside a word, so that exactly ⌈share · pieces⌉
pieces are hidden. Spans that touch are one from then on: it is masked, replaced or kept as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import concat_ranges
from data_shards.shards.record import Records
from spe_dist.batches.random_draws import FloatArray

COLUMNS = 3  # random numbers of a word: its turn, the length of a span that begins there, how that is hidden


@dataclass(frozen=True)
class HiddenSpans:
    """The T hidden pieces, by record and place, and the spans that they make up."""

    pieces: NDArray[np.int64]  # [T] index the pieces of all records
    spans: NDArray[np.int64]  # [T] which span each is of
    starts: NDArray[np.int64]  # [spans] first piece of each
    ends: NDArray[np.int64]  # [spans] the piece after its last

    def with_boundaries(self, records: Records) -> NDArray[np.bool_]:
        """Whether a span has a piece of its record on either side, [spans]."""
        offsets = records.pieces.offsets
        record = np.searchsorted(offsets, self.starts, side="right") - 1
        return (self.starts > offsets[record]) & (self.ends < offsets[record + 1])


def hide_spans(
    records: Records, uniforms: FloatArray, *, masked: float, geometric_p: float, max_words: int
) -> HiddenSpans:
    """Choose spans.

    Args:
        records: any.
        uniforms: random numbers in [0, 1), [words, COLUMNS].
        masked: share of a record's pieces that are hidden.
        geometric_p: success probability of the geometric distribution of lengths, cut off at `max_words`.
        max_words: longest span.
    """
    word_offsets, bounds = records.word_starts.offsets, records.word_bounds
    # Words in a random order, without those hidden when it is their turn: each time one of the others at random.
    turns = np.lexsort((uniforms[:, 0], records.word_starts.row_index()))
    lengths = 1 + np.searchsorted(_length_cumulative(geometric_p, max_words), uniforms[:, 1], side="right")
    left = np.ceil(masked * records.pieces.lengths).astype(np.int64)  # to hide, of each record
    hidden = np.zeros(len(records.pieces.values), dtype=np.bool_)
    active, turn = np.flatnonzero(left), 0
    while len(active):
        words = turns[word_offsets[active] + turn]
        is_free = ~hidden[bounds[words]]
        record, first = active[is_free], words[is_free]
        last = np.minimum(first + lengths[first], word_offsets[record + 1])
        counts = bounds[last] - bounds[first]
        places, row = concat_ranges(bounds[first], counts), np.repeat(np.arange(len(first)), counts)
        places, row = places[~hidden[places]], row[~hidden[places]]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        taken = rank < left[record[row]]
        hidden[places[taken]] = True
        left[record] -= np.bincount(row[taken], minlength=len(record))
        active, turn = active[left[active] > 0], turn + 1
    pieces = np.flatnonzero(hidden)
    begins = pieces[~np.concatenate([[False], hidden])[pieces] | np.isin(pieces, records.pieces.offsets)]
    spans = np.searchsorted(begins, pieces, side="right") - 1
    return HiddenSpans(pieces, spans, begins, begins + np.bincount(spans, minlength=len(begins)))


def _length_cumulative(geometric_p: float, max_words: int) -> FloatArray:
    """Probability of a length of at most 1…max_words - 1 words."""
    mass = (1 - geometric_p) ** np.arange(max_words)
    return np.cumsum(mass / mass.sum())[:-1]
