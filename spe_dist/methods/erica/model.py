"""What ERICA trains: the sentence encoder and, for masked language modelling, BERT's head; nothing else is new."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from data_shards.errors import UserError
from data_shards.shards.manifest import Manifest
from spe_dist.documents.marked_facts import MARKERS as FACT_MARKERS
from spe_dist.methods.erica.batch import DocumentBatch
from spe_dist.methods.erica.config import EricaConfig
from spe_dist.methods.erica.entity_discrimination import entity_discrimination
from spe_dist.methods.erica.markers import PIECES
from spe_dist.models.saved_encoder import add_rows, new_sentence_encoder
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.objectives.classifier import NoObjective
from spe_dist.objectives.masked_language_modelling import MaskedLanguageModelling

METRICS = ("ed_found", "ed_by_chance", "ed_by_nearness", "mlm_found")
_MARKER_PIECES = {"mean": 0, "marker": PIECES, "fact_marker": len(FACT_MARKERS)}


class EricaEncoder(nn.Module):
    """The sentence encoder, with entity vectors by eq. 1 of the paper.

    Args:
        sentence_encoder: sentence encoder of the run.
    """

    def __init__(self, sentence_encoder: SentenceEncoder) -> None:
        super().__init__()
        self.sentence_encoder = sentence_encoder

    def forward(self, batch: DocumentBatch) -> tuple[Tensor, Tensor]:
        """States of pieces [P, H]; vectors of entities [E, H] fp32: means of their mentions."""
        states = self.sentence_encoder(batch.packed)
        return states, batch.pooled.means(states)


class EricaModel(nn.Module):
    """Everything that is trained.

    Args:
        config: the run.
        encoder: what all objectives compare.
    """

    def __init__(self, config: EricaConfig, encoder: EricaEncoder) -> None:
        super().__init__()
        _check_objectives(config)
        self.encoder = encoder
        self.ed_temperature = config.ed.temperature
        sentences = encoder.sentence_encoder
        self.mlm: nn.Module = NoObjective()
        if config.mlm.weight > 0:
            self.mlm = MaskedLanguageModelling(sentences.hidden_size, sentences.word_embeddings, dropout=0.0)

    def forward(self, batch: DocumentBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and metrics of a batch, as sums over its items, without relation discrimination.

        Returns:
            losses [2], of ED and MLM; metrics [4], of `METRICS`, without gradient; vectors of the entities that
            relation discrimination compares, [K, H] fp32.
        """
        states, entities = self.encoder(batch)
        ed, ed_found = entity_discrimination(
            entities, batch.ed_heads, batch.ed_candidates, temperature=self.ed_temperature
        )
        mlm, mlm_found = self.mlm(states[batch.mlm_pieces], batch.mlm_targets)
        metrics = (ed_found, batch.ed_chance, batch.ed_nearest, mlm_found)
        return (
            torch.stack([ed.sum(), mlm.sum()]),
            torch.stack([metric.sum().float() for metric in metrics]),
            entities[batch.rd_entities],
        )


def add_markers(config: EricaConfig, encoder: SentenceEncoder, vocab_size: int) -> None:
    """Give the word embeddings rows for markers, behind the tokenizer's vocabulary, drawn as BERT's are."""
    add_rows(encoder, vocab_size + _MARKER_PIECES[config.pooling])


def new_model(config: EricaConfig, hf_config: PretrainedConfig, manifest: Manifest | None) -> EricaModel:
    """The model of a run with new weights, its sentence encoder of the given sizes."""
    if config.pooling != "mean" and manifest is not None:
        hf_config = deepcopy(hf_config)
        hf_config.vocab_size = max(manifest.tokenizer.vocab_size + _MARKER_PIECES[config.pooling], hf_config.vocab_size)
    return EricaModel(config, EricaEncoder(new_sentence_encoder(hf_config)))


def _check_objectives(config: EricaConfig) -> None:
    if not (config.ed.weight or config.rd.weight or config.mlm.weight):
        raise UserError("ed.weight, rd.weight and mlm.weight are all 0: nothing would be trained")
    if config.ed.weight and config.rd.weight and config.batch.lane_size < 2:
        raise UserError("batch.lane_size is 1, but each half of a lane serves another objective (ED, RD): set it to 2")
    if config.mlm.weight and not config.mlm.masked:
        raise UserError("mlm.masked is 0, so MLM has no pieces to predict: set it above 0, or mlm.weight to 0")
    if config.pooling == "fact_marker" and (config.ed.weight or config.rd.na_pairs):
        raise UserError(
            "pooling 'fact_marker' shows one fact of each sentence: set ed.weight and rd.na_pairs, which compare other "
            "entities, to 0"
        )
    if config.pooling != "fact_marker" and config.entity_blank:
        raise UserError(f"entity_blank has no effect with pooling '{config.pooling}': set it to 0")
    if not config.rd.terms:
        raise UserError("rd.terms is empty: name at least one of ss, sc, cs, cc")
