"""Pairs of sentences → one packed forward of MTB, in whole-array steps (no loop over records)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data_shards.ragged import IntArray
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import Records
from spe_dist.batches.packing import as_tensor
from spe_dist.documents.marked_facts import FactMarking
from spe_dist.methods.mtb.batch import PairBatch
from spe_dist.methods.mtb.config import MtbConfig
from spe_dist.methods.mtb.data import require_pairs


@dataclass(frozen=True)
class PairCollate:
    """Makes the batches of MTB; a pure function of (records, seed, step, lanes).

    Args:
        marking: draws and marks the fact of each sentence.
    """

    marking: FactMarking

    def __call__(self, records: Records, record_ids: IntArray, step: int, lanes: Sequence[int]) -> PairBatch:
        """The forward of some lanes of a step; see `FactMarking`.

        Records that are no pair of sentences with a fact each, as the dry run before the first step has, are encoded
        and not compared.
        """
        marked = self.marking(records, record_ids, step, lanes)
        fact_counts = np.bincount(marked.facts.records, minlength=len(records))
        is_pair = (records.layers["sentence_starts"].lengths == 2) & (fact_counts == 2)
        pairs = np.flatnonzero(is_pair[marked.facts.records]).reshape(-1, 2)
        ids = records.layers["knowledge_ids"].values
        heads, tails = ids[marked.facts.heads[pairs]], ids[marked.facts.tails[pairs]]
        same = (heads[:, 0] == heads[:, 1]) & (tails[:, 0] == tails[:, 1])
        return PairBatch(
            packed=marked.packed,
            word_pieces=marked.word_pieces,
            counts=torch.tensor([len(pairs), len(marked.mlm_pieces)]),
            record_ids=as_tensor(record_ids.reshape(-1)),
            digests=marked.digests(),
            pooled=marked.pooled,
            pairs=as_tensor(pairs),
            same=torch.from_numpy(same.astype(np.float32)),
            mlm_pieces=marked.mlm_pieces,
            mlm_targets=marked.mlm_targets,
        )


def build_collate(config: MtbConfig, reader: ShardReader) -> PairCollate:
    """The batches of a run.

    Raises:
        UserError: the dataset has no pairs of sentences.
    """
    require_pairs(reader)
    manifest = reader.manifest
    return PairCollate(
        FactMarking(
            special=manifest.tokenizer.special_ids,
            vocab_size=manifest.tokenizer.vocab_size,
            seed=config.run.seed,
            lane_size=config.batch.lane_size,
            kept_relations=np.ones(len(manifest.relation_types), dtype=np.bool_),
            blank=config.mtb.entity_blank,
            masked=config.mlm.masked if config.mlm.weight > 0 else 0.0,
        )
    )
