"""Masked language modelling alone, on the same records and encoder: one sequence a record, no spans, no keys.

What a step of it costs is the floor that the objectives of a method are measured against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from data_shards.ragged import IntArray
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import Records
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import Batch
from spe_dist.batches.packing import as_tensor, pack
from spe_dist.config import Config
from spe_dist.methods.method import Method
from spe_dist.methods.model_flops import embedding_size, encoder_flops
from spe_dist.methods.workload import Workload
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.objectives.masked_language_modelling import MaskedLanguageModelling

MASKED_SHARE = 0.15


@dataclass(frozen=True, kw_only=True)
class MlmBatch(Batch):
    """One forward."""

    masked: Tensor  # [T] packed index of each masked piece
    targets: Tensor  # [T] id of the piece that was there


@dataclass(frozen=True)
class MlmCollate:
    """Every record once, 15 % of its pieces masked."""

    special: SpecialIds
    seed: int

    def __call__(self, records: Records, record_ids: IntArray, step: int, lanes: Sequence[int]) -> MlmBatch:
        """The forward of some lanes."""
        ids = records.pieces.values.astype(np.int64)
        generator = np.random.default_rng([self.seed, step, *lanes])
        masked = np.nonzero(generator.random(len(ids)) < MASKED_SHARE)[0]
        targets, ids[masked] = ids[masked], self.special.mask
        places, packed = pack(ids, records.pieces.lengths, self.special)
        return MlmBatch(
            packed=packed,
            word_pieces=as_tensor(places[records.first_pieces]),
            counts=torch.tensor([len(masked)]),
            record_ids=as_tensor(record_ids.reshape(-1)),
            digests=torch.zeros(2, dtype=torch.int64),
            masked=as_tensor(places[masked]),
            targets=as_tensor(targets),
        )


class MlmModel(nn.Module):
    """BERT's own head on a sentence encoder."""

    def __init__(self, sentence_encoder: SentenceEncoder, *, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"sentence_encoder": sentence_encoder})
        hidden_size, table = sentence_encoder.hidden_size, sentence_encoder.word_embeddings
        self.mlm = MaskedLanguageModelling(hidden_size, table, dropout=dropout)

    def forward(self, batch: MlmBatch) -> tuple[Tensor, Tensor]:
        """Sum of losses [1] and of pieces found [1]."""
        states = self.encoder["sentence_encoder"](batch.packed)
        losses, found = self.mlm(states[batch.masked], batch.targets)
        return losses.sum()[None], found.sum()[None].float()


class Mlm(Method):
    """A method as the training session wants it."""

    terms = ("mlm",)
    metrics = ("mlm_found",)
    term_weights = (1.0,)

    def __init__(self, config: Config, reader: ShardReader, *, device: torch.device) -> None:
        super().__init__(config, reader)
        self.collate = MlmCollate(reader.manifest.tokenizer.special_ids, config.run.seed)
        self.model = MlmModel(self.new_encoder(), dropout=config.encoder.dropout)

    def model_flops(self, workload: Workload) -> int:
        """Encoder and head, forward and backward."""
        encoder = self.encoder_config
        head = embedding_size(encoder) * (encoder.hidden_size + encoder.vocab_size)
        return 3 * (sum(encoder_flops(encoder, workload).values()) + 2 * workload.counts["mlm"] * head)
