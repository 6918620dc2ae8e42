"""What MTB trains: the sentence encoder, with rows for markers, and BERT's head for masked language modelling."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from data_shards.errors import UserError
from data_shards.shards.manifest import Manifest
from spe_dist.documents.marked_facts import MARKERS
from spe_dist.methods.mtb.batch import PairBatch
from spe_dist.methods.mtb.config import MtbConfig
from spe_dist.models.encoder_only import EncoderOnly
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.objectives.classifier import NoObjective
from spe_dist.objectives.masked_language_modelling import MaskedLanguageModelling

METRICS = ("mtb_found", "mtb_same", "mlm_found")


class MtbModel(nn.Module):
    """Everything that is trained.

    Args:
        config: the run.
        sentence_encoder: with rows for the markers.
    """

    def __init__(self, config: MtbConfig, sentence_encoder: SentenceEncoder) -> None:
        super().__init__()
        if not (config.mtb.weight or config.mlm.weight):
            raise UserError("mtb.weight and mlm.weight are both 0: nothing would be trained")
        if config.mlm.weight and not config.mlm.masked:
            raise UserError("mlm.masked is 0, so MLM has no pieces to predict: set it above 0, or mlm.weight to 0")
        self.encoder = EncoderOnly(sentence_encoder)
        self.mlm: nn.Module = NoObjective()
        if config.mlm.weight > 0:
            self.mlm = MaskedLanguageModelling(
                sentence_encoder.hidden_size, sentence_encoder.word_embeddings, dropout=0.0
            )

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Losses [2] and metrics [3], without gradient, of a batch, as sums over its items."""
        states = self.encoder.sentence_encoder(batch.packed)
        facts = batch.pooled.means(states).view(-1, 2 * states.shape[1])
        scores, same = match(facts, batch.pairs), batch.same
        losses = nn.functional.binary_cross_entropy_with_logits(scores, same, reduction="sum")
        mlm, mlm_found = self.mlm(states[batch.mlm_pieces], batch.mlm_targets)
        metrics = ((scores.detach() > 0) == same.bool(), same, mlm_found)
        return torch.stack([losses, mlm.sum()]), torch.stack([metric.sum().float() for metric in metrics])


def match(facts: Tensor, pairs: Tensor) -> Tensor:
    """Dot products of the vectors [N, 2 H] of two facts each [Q, 2]; [Q] fp32."""
    return (facts[pairs[:, 0]] * facts[pairs[:, 1]]).sum(dim=1)


def new_model(config: MtbConfig, hf_config: PretrainedConfig, manifest: Manifest | None) -> MtbModel:
    """The model of a run with new weights, its sentence encoder of the given sizes."""
    if manifest is not None:
        hf_config = deepcopy(hf_config)
        hf_config.vocab_size = max(manifest.tokenizer.vocab_size + len(MARKERS), hf_config.vocab_size)
    return MtbModel(config, new_sentence_encoder(hf_config))
