"""What masked language modelling trains: the sentence encoder and the heads of MLM and SBO."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from data_shards.errors import UserError
from data_shards.shards.manifest import Manifest
from spe_dist.methods.mlm.batch import MaskedBatch
from spe_dist.methods.mlm.config import MaskedLanguageConfig
from spe_dist.methods.mlm.span_boundary import SpanBoundaryObjective
from spe_dist.models.encoder_only import EncoderOnly
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.objectives.classifier import NoObjective
from spe_dist.objectives.masked_language_modelling import MaskedLanguageModelling

METRICS = ("mlm_found", "sbo_found")


class MaskedLanguageModel(nn.Module):
    """Everything that is trained.

    Args:
        config: the run.
        sentence_encoder: sentence encoder of the run.
    """

    def __init__(self, config: MaskedLanguageConfig, sentence_encoder: SentenceEncoder) -> None:
        super().__init__()
        _check_objectives(config)
        self.encoder = EncoderOnly(sentence_encoder)
        self.mlm: nn.Module = NoObjective()
        self.sbo: nn.Module = NoObjective()
        hidden, embeddings = sentence_encoder.hidden_size, sentence_encoder.word_embeddings
        if config.mlm.weight > 0:
            self.mlm = MaskedLanguageModelling(hidden, embeddings, dropout=0.0)
        if config.sbo.weight > 0:
            self.sbo = SpanBoundaryObjective(hidden, embeddings, position_size=config.sbo.position_size)

    def forward(self, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """Losses [2] and metrics [2] of a batch, of `TERMS` and `METRICS`, as sums over its items."""
        states = self.encoder.sentence_encoder(batch.packed)
        mlm, mlm_found = self.mlm(states[batch.mlm_pieces], batch.mlm_targets)
        sbo, sbo_found = self.sbo(states[batch.sbo_boundaries], batch.sbo_positions, batch.sbo_targets)
        return (
            torch.stack([mlm.sum(), sbo.sum()]),
            torch.stack([mlm_found.sum(), sbo_found.sum()]).float(),
        )


def new_model(config: MaskedLanguageConfig, hf_config: PretrainedConfig, manifest: Manifest | None) -> nn.Module:
    """The model of a run with new weights, its sentence encoder of the given sizes."""
    return MaskedLanguageModel(config, new_sentence_encoder(hf_config))


def _check_objectives(config: MaskedLanguageConfig) -> None:
    if not (config.mlm.weight or config.sbo.weight):
        raise UserError("mlm.weight and sbo.weight are both 0: nothing would be trained")
    if not config.masking.masked:
        raise UserError("masking.masked is 0: no piece would be predicted")
    if config.sbo.weight and config.masking.unit != "spans":
        raise UserError(
            "sbo.weight is not 0, but masking.unit is pieces, which have no boundaries: set masking.unit to spans, or "
            "sbo.weight to 0"
        )
