"""Pieces to predict (MLM): outside of mentions, as BERT hides them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.shards.record import Records
from spe_dist.batches.random_draws import FloatArray

COLUMNS = 2  # random numbers of a piece
_MASKED, _REPLACED = 0.8, 0.1  # of the pieces to predict; the rest is kept


@dataclass(frozen=True)
class MaskedPieces:
    """`pieces` [T] index the pieces of all records; `piece_ids` [pieces] are what the encoder sees."""

    pieces: NDArray[np.int64]
    piece_ids: NDArray[np.int64]


def mask_pieces(
    records: Records, uniforms: FloatArray, *, masked: float, mask_id: int, vocab_size: int
) -> MaskedPieces:
    """Choose pieces and hide them.

    Args:
        records: documents.
        uniforms: random numbers in [0, 1), [pieces, COLUMNS].
        masked: share of the pieces that are in no mention.
        mask_id: id of [MASK].
        vocab_size: of which a piece is replaced by any one.
    """
    ids = records.pieces.values.astype(np.int64)
    pieces = np.flatnonzero((uniforms[:, 0] < masked) & ~_in_mentions(records))
    kind = uniforms[pieces, 1]
    other = ((kind - _MASKED) / _REPLACED * vocab_size).astype(np.int64)
    replaced = kind < _MASKED + _REPLACED
    ids[pieces[replaced]] = np.clip(other[replaced], 0, vocab_size - 1)
    ids[pieces[kind < _MASKED]] = mask_id
    return MaskedPieces(pieces, ids)


def _in_mentions(records: Records) -> NDArray[np.bool_]:
    """Whether each piece of all records is in a mention."""
    first_words = np.repeat(records.word_starts.offsets[:-1], records.entities.lengths)
    spans = records.entities.values[:, :2].astype(np.int64) + first_words[:, None]
    changes = np.bincount(spans[:, 0], minlength=len(records.first_pieces) + 1)
    changes = changes - np.bincount(spans[:, 1], minlength=len(changes))
    return np.repeat(np.cumsum(changes[:-1]) > 0, records.pieces_per_word)
