"""Token-boundary masks (SPE paper): pieces inside a word are hidden, its first piece stays.

Only words of two or more pieces take part. In random order of words, the pieces after the first are replaced by [MASK]
until the sentence's budget, min(cap, ⌈share · pieces⌉), is spent; the last word may be hidden only in part, so that
exactly min(available, budget) pieces are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import concat_ranges
from data_shards.shards.record import Records
from spe_dist.batches.random_draws import FloatArray


@dataclass(frozen=True)
class HiddenPieces:
    """The T hidden pieces: `pieces` [T] and `anchors` [T] index the pieces of all records, `offsets` [T] ≥ 1.

    A hidden piece is predicted from the state of its anchor, its word's first piece, and its offset from the anchor.
    """

    pieces: NDArray[np.int64]
    anchors: NDArray[np.int64]
    offsets: NDArray[np.int64]


_NONE = np.zeros(0, dtype=np.int64)
NOTHING_HIDDEN = HiddenPieces(_NONE, _NONE, _NONE)


def hide_pieces(records: Records, uniforms: FloatArray, *, share: float, cap: int) -> HiddenPieces:
    """Choose the pieces to hide.

    Args:
        records: the sentences.
        uniforms: random numbers in [0, 1), [words].
        share: budget as a share of a sentence's pieces.
        cap: largest budget of a sentence.
    """
    inner = records.pieces_per_word - 1
    sentence = records.word_starts.row_index()
    budget = np.minimum(cap, np.ceil(share * records.pieces.lengths)).astype(np.int64)
    words = np.nonzero(inner > 0)[0]
    words = words[np.lexsort((uniforms[words], sentence[words]))]
    spent_before = np.cumsum(inner[words]) - inner[words]
    _, first_of_sentence, group = np.unique(sentence[words], return_index=True, return_inverse=True)
    spent_before -= spent_before[first_of_sentence][group]
    hidden = np.clip(budget[sentence[words]] - spent_before, 0, inner[words])
    anchors = records.first_pieces[words]
    offsets = concat_ranges(np.ones_like(hidden), hidden)
    repeated = np.repeat(anchors, hidden)
    return HiddenPieces(pieces=repeated + offsets, anchors=repeated, offsets=offsets)
