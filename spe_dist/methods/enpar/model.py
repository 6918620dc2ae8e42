"""What ENPAR trains: its encoders, and the heads of the four objectives."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from data_shards.errors import UserError
from data_shards.shards.manifest import Manifest
from spe_dist.batches.five_spans import FIRST, LEFT, MIDDLE, RIGHT, SECOND
from spe_dist.methods.enpar.adversarial_context_discrimination import AdversarialContextDiscrimination
from spe_dist.methods.enpar.batch import EntityPairBatch
from spe_dist.methods.enpar.config import EnparConfig
from spe_dist.methods.enpar.rearrangements import NUM_CLASSES
from spe_dist.models.entity_pair_encoder import EntityPairEncoder
from spe_dist.models.from_sizes import span_encoder_of
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.objectives.classifier import Classifier, NoObjective
from spe_dist.objectives.masked_language_modelling import MaskedLanguageModelling

METRICS = (
    "met_found",
    "met_hidden",
    "met_hidden_found",
    "mep_found",
    "acd_found",
    "pp_found",
    "pp_moved",
    "pp_moved_found",
)
_ONTONOTES_TYPES = 18  # of the paper's entities, where no dataset says
_ENTITIES, _CONTEXTS = [FIRST, SECOND], [LEFT, MIDDLE, RIGHT]


class EnparEncoder(nn.Module):
    """Sentence encoder, entity encoder, context encoder and entity pair encoder.

    The entity encoder has the name that SPE's span encoder has: export and fine-tuning take either by it.

    Args:
        config: the run.
        sentence_encoder: its sentence encoder.
    """

    def __init__(self, config: EnparConfig, sentence_encoder: SentenceEncoder) -> None:
        super().__init__()
        hidden, dropout = sentence_encoder.hidden_size, config.heads_dropout
        entity, context = config.entity_encoder, config.context_encoder
        self.sentence_encoder = sentence_encoder
        self.span_encoder = self.context_encoder = self.pair_encoder = None
        pairs = config.acd.weight > 0 or config.pp.weight > 0
        if pairs or config.met.weight > 0:
            self.span_encoder = span_encoder_of(entity, hidden, dropout=dropout)
        if pairs:
            self.context_encoder = span_encoder_of(context, hidden, dropout=dropout)
            self.pair_encoder = EntityPairEncoder(entity.size, context.size, config.pair_encoder.size, dropout=dropout)

    def encode(self, batch: EntityPairBatch) -> tuple[Tensor, Tensor, Tensor]:
        """States of pieces [P, H]; vectors of the masked copies' entities [E, entity size]; of pairs [C, pair size].

        Vectors that no objective needs are none.
        """
        states = self.sentence_encoder(batch.packed)
        nothing = states.new_zeros(0, 0)
        if self.span_encoder is None:
            return states, nothing, nothing
        words = states[batch.word_pieces]
        of_pairs = batch.word_spans[:, _ENTITIES]
        starts, ends = torch.cat([of_pairs.flatten(0, 1), batch.met_spans]).unbind(1)
        vectors = self.span_encoder(words, starts, ends)
        paired, entities = vectors.split([2 * len(of_pairs), len(batch.met_spans)])
        if self.context_encoder is None or self.pair_encoder is None:
            return states, entities, nothing
        around = batch.word_spans[:, _CONTEXTS]
        starts, ends = around.unbind(2)
        contexts = self.context_encoder(words[: batch.unmasked_words], starts.flatten(), ends.flatten())
        pairs = self.pair_encoder(paired.unflatten(0, (-1, 2)), contexts.unflatten(0, (-1, 3)), empty=starts == ends)
        return states, entities, pairs


class EnparModel(nn.Module):
    """Everything that is trained: the encoder and the heads of the four objectives.

    Args:
        config: the run.
        encoder: what the heads stand on.
        types: number of types of entities.
    """

    def __init__(self, config: EnparConfig, encoder: EnparEncoder, *, types: int) -> None:
        super().__init__()
        _check_objectives(config)
        self.encoder = encoder
        sentences, pair_size = encoder.sentence_encoder, config.pair_encoder.size
        self.met: nn.Module = NoObjective()
        self.mep: nn.Module = NoObjective()
        self.acd: nn.Module = NoObjective()
        self.pp: nn.Module = NoObjective()
        if config.met.weight > 0:
            self.met = Classifier(config.entity_encoder.size, types)
        if config.mep.weight > 0:  # no dropout in the paper's program either
            self.mep = MaskedLanguageModelling(sentences.hidden_size, sentences.word_embeddings, dropout=0.0)
        if config.acd.weight > 0:
            self.acd = AdversarialContextDiscrimination(pair_size, margin=config.acd.margin)
        if config.pp.weight > 0:
            self.pp = Classifier(pair_size, NUM_CLASSES)

    def forward(self, batch: EntityPairBatch) -> tuple[Tensor, Tensor]:
        """Losses and metrics of a batch, as sums over its items.

        Args:
            batch: the forward's records.

        Returns:
            losses [4], one for each of `TERMS`; metrics [8], of `METRICS`, without gradient.
        """
        states, entities, pairs = self.encoder.encode(batch)
        met, met_found = self.met(entities, batch.met_types)
        mep, mep_found = self.mep(states[batch.mep_pieces], batch.mep_targets)
        acd, acd_found = self.acd(pairs, batch.acd_originals, batch.acd_perturbed)
        pp, pp_found = self.pp(pairs[batch.pp_copies], batch.pp_classes)
        hidden, moved = batch.met_hidden, batch.pp_classes != 0
        metrics = [met_found, hidden, hidden & met_found, mep_found, acd_found, pp_found, moved, moved & pp_found]
        return (
            torch.stack([losses.sum() for losses in (met, mep, acd, pp)]),
            torch.stack([metric.sum() for metric in metrics]).float(),
        )


def new_model(config: EnparConfig, hf_config: PretrainedConfig, manifest: Manifest | None) -> EnparModel:
    """The model of a run with new weights, its sentence encoder of the given sizes."""
    types = len(manifest.entity_types) if manifest is not None else _ONTONOTES_TYPES
    return EnparModel(config, EnparEncoder(config, new_sentence_encoder(hf_config)), types=types)


def _check_objectives(config: EnparConfig) -> None:
    if not (config.met.weight or config.mep.weight or config.acd.weight or config.pp.weight):
        raise UserError("met.weight, mep.weight, acd.weight and pp.weight are all 0: nothing would be trained")
    if config.masking.masked + config.masking.replaced > 1:
        raise UserError("masking.masked and masking.replaced are together more than 1: lower one of them")
    if config.mep.weight and not config.masking.masked + config.masking.replaced:
        raise UserError(
            "masking.masked and masking.replaced are 0, so MEP has no pieces to predict: set one of them above 0, or "
            "mep.weight to 0"
        )
