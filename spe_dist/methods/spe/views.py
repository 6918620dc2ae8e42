"""The two views of a sentence (SPE paper): the pair view shows the span pair, the context view the rest.

What a view does not show is replaced, piece by piece, by [MASK]: the length stays, and so do the positions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray
from data_shards.shards.record import Records

PAIR_VIEW, CONTEXT_VIEW = 0, 1


def words_in_pair(records: Records, word_boundaries: IntArray) -> NDArray[np.bool_]:
    """Whether each word belongs to the span pair, [words]."""
    sentence = records.word_starts.row_index()
    word = np.arange(len(sentence)) - records.word_starts.offsets[sentence]
    _, first_start, first_end, second_start, second_end, _ = word_boundaries[sentence].T
    return ((word >= first_start) & (word < first_end)) | ((word >= second_start) & (word < second_end))


def pieces_in_pair(records: Records, word_boundaries: IntArray) -> NDArray[np.bool_]:
    """Whether each piece belongs to a word of the span pair, [pieces]."""
    return np.repeat(words_in_pair(records, word_boundaries), records.pieces_per_word)


def show_views(
    pieces: IntArray, in_pair: NDArray[np.bool_], *, mask_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Piece ids of the pair view and of the context view, [pieces] each."""
    ids = pieces.astype(np.int64)
    return np.where(in_pair, ids, mask_id), np.where(in_pair, mask_id, ids)
