"""One forward of MTB (see `collate.py` for how it is made; legend of shapes: batches/batch.py)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spe_dist.batches.batch import Batch
from spe_dist.documents.pooled_vectors import PooledPieces


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """R pairs of sentences, each sentence a sequence with a marked fact; N facts."""

    pooled: PooledPieces  # vectors of the head and the tail of each fact, one after the other, 2 N
    pairs: Tensor  # [Q, 2] numbers of the facts of two sentences
    same: Tensor  # [Q] fp32: 1 if head and tail are the same entities, else 0
    mlm_pieces: Tensor  # [T] packed index of each piece to predict
    mlm_targets: Tensor  # [T] id of the piece that was there
