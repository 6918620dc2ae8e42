"""One forward of ERICA (see `collate.py` for how it is made; legend of shapes: batches/batch.py)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spe_dist.batches.batch import Batch
from spe_dist.documents.pooled_vectors import PooledPieces


@dataclass(frozen=True, kw_only=True)
class DocumentBatch(Batch):
    """R documents with E entities. K entities and N pairs are of the documents of relation discrimination (RD)."""

    pooled: PooledPieces  # that the vectors of the E entities are means of
    ed_heads: Tensor  # [Q] entity that each question is about
    ed_candidates: Tensor  # [Q, most] entities that may be the answer, the right one first; -1 beyond the last
    ed_chance: Tensor  # [Q] fp32: 1 / candidates
    ed_nearest: Tensor  # [Q] bool: is the candidate that is mentioned nearest to the head the answer?
    rd_entities: Tensor  # [K] which of the E entities
    rd_pairs: Tensor  # [N, 7] facts and unrelated pairs (fact_pairs.py); head and tail count among the K
    mlm_pieces: Tensor  # [T] packed index of each piece to predict
    mlm_targets: Tensor  # [T] id of the piece that was there
    step: int  # of the run, on the host
