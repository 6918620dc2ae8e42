"""Sentences → one packed forward of CP (Peng et al., 2020): a marked fact of each, for relation discrimination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data_shards.ragged import IntArray
from data_shards.shards.record import Records
from spe_dist.batches.packing import as_tensor
from spe_dist.documents.marked_facts import FactMarking
from spe_dist.methods.erica.batch import DocumentBatch
from spe_dist.methods.erica.fact_pairs import HEAD, TAIL
from spe_dist.methods.erica.facts import pair_rows


@dataclass(frozen=True)
class MarkedFactCollate:
    """Makes the batches of a run whose pooling is `fact_marker`; a pure function of (records, seed, step, lanes).

    A batch has no questions; its entities are heads and tails of the N facts, one after the other.

    Args:
        marking: draws and marks the facts.
    """

    marking: FactMarking

    def __call__(self, records: Records, record_ids: IntArray, step: int, lanes: Sequence[int]) -> DocumentBatch:
        """The forward of some lanes of a step; see `FactMarking`."""
        marked = self.marking(records, record_ids, step, lanes)
        facts = marked.facts
        lane_of_record = np.repeat(np.array(lanes, dtype=np.int64), self.marking.lane_size)
        pairs = pair_rows(records, facts, facts.take(np.arange(0)), lane_of_record)
        pairs[:, HEAD] = np.arange(0, 2 * len(pairs), 2)
        pairs[:, TAIL] = pairs[:, HEAD] + 1
        nothing = torch.zeros(0)
        return DocumentBatch(
            packed=marked.packed,
            word_pieces=marked.word_pieces,
            counts=torch.tensor([0, 0, len(marked.mlm_pieces)]),  # of RD: `Erica.before_step`
            record_ids=as_tensor(record_ids.reshape(-1)),
            digests=marked.digests(),
            pooled=marked.pooled,
            ed_heads=nothing.long(),
            ed_candidates=nothing.long()[:, None],
            ed_chance=nothing,
            ed_nearest=nothing.bool(),
            rd_entities=torch.arange(2 * len(pairs)),
            rd_pairs=as_tensor(pairs),
            mlm_pieces=marked.mlm_pieces,
            mlm_targets=marked.mlm_targets,
            step=step,
        )
