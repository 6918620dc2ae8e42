"""Pieces to predict (MLM), hidden as BERT hides them: 80 % are masked, 10 % replaced by any piece, 10 % kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray
from spe_dist.batches.random_draws import FloatArray

COLUMNS = 2  # random numbers of a piece
_MASKED, _REPLACED = 0.8, 0.1  # of the pieces to predict; the rest is kept


@dataclass(frozen=True)
class MaskedPieces:
    """`pieces` [T] index the pieces of all records; `piece_ids` [pieces] are what the encoder sees."""

    pieces: NDArray[np.int64]
    piece_ids: NDArray[np.int64]


def mask_pieces(
    piece_ids: IntArray,
    possible: NDArray[np.bool_],
    uniforms: FloatArray,
    *,
    masked: float,
    mask_id: int,
    vocab_size: int,
) -> MaskedPieces:
    """Choose pieces, each for itself, and hide them.

    Args:
        piece_ids: ids of the pieces of all records, [pieces].
        possible: which of them may be chosen, [pieces].
        uniforms: random numbers in [0, 1), [pieces, COLUMNS].
        masked: share of the possible ones that is chosen.
        mask_id: id of [MASK].
        vocab_size: of which a piece is replaced by any one.
    """
    pieces = np.flatnonzero((uniforms[:, 0] < masked) & possible)
    kinds = uniforms[pieces, 1]
    others = (kinds - _MASKED) / _REPLACED
    return hide(piece_ids, pieces, kinds, others, mask_id=mask_id, vocab_size=vocab_size)


def hide(
    piece_ids: IntArray,
    pieces: NDArray[np.int64],
    kinds: FloatArray,
    others: FloatArray,
    *,
    mask_id: int,
    vocab_size: int,
) -> MaskedPieces:
    """Hide chosen pieces.

    Args:
        piece_ids: ids of the pieces of all records, [pieces].
        pieces: the chosen ones, [T].
        kinds: random numbers in [0, 1) that say how each is hidden, [T].
        others: random numbers in [0, 1) that say what replaces those which are replaced, [T].
        mask_id: as of `mask_pieces`.
        vocab_size: as of `mask_pieces`.
    """
    shown = piece_ids.astype(np.int64)
    replaced = kinds < _MASKED + _REPLACED
    shown[pieces[replaced]] = np.clip((others[replaced] * vocab_size).astype(np.int64), 0, vocab_size - 1)
    shown[pieces[kinds < _MASKED]] = mask_id
    return MaskedPieces(pieces, shown)
