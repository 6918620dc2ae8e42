"""One forward of SPE (see `collate.py` for how it is made; legend of shapes: batches/batch.py)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spe_dist.batches.batch import Batch


@dataclass(frozen=True, kw_only=True)
class SpanPairBatch(Batch):
    """Both views of R records, S = 2 R sequences: all pair views, then all context views."""

    word_spans: Tensor  # [S, 5, 2] the five spans around the pair of each sequence, as packed words, half-open
    tbo_anchors: Tensor  # [T] packed index of the first piece of the hidden piece's word
    tbo_offsets: Tensor  # [T] offset of the hidden piece from its anchor, at least 1
    tbo_targets: Tensor  # [T] id of the hidden piece
    tbo_views: Tensor  # [T] 0: predicted in the pair view, 1: in the context view
    spo_spans: Tensor  # [Q] index into the flattened [S * 5] spans
    spo_classes: Tensor  # [Q] which permutation, 0…5
    spo_views: Tensor  # [Q]
