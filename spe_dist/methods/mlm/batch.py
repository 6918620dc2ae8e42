"""One forward of masked language modelling (legend of shapes: batches/batch.py)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spe_dist.batches.batch import Batch


@dataclass(frozen=True, kw_only=True)
class MaskedBatch(Batch):
    """R records; of the T pieces to predict the span boundary objective (SBO) has B."""

    mlm_pieces: Tensor  # [T] packed index of each piece to predict
    mlm_targets: Tensor  # [T] id of the piece that was there
    sbo_boundaries: Tensor  # [B, 2] packed index of the piece before and the piece after the span of each
    sbo_positions: Tensor  # [B] place of the piece in its span, from 0
    sbo_targets: Tensor  # [B] id of the piece that was there
