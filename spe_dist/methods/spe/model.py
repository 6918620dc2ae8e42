"""What SPE trains: the encoder f of the paper's Figure 6, and the heads of the three objectives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from data_shards.errors import UserError
from data_shards.shards.manifest import Manifest
from spe_dist.batches.five_spans import NUM_SPANS
from spe_dist.methods.spe.batch import SpanPairBatch
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.methods.spe.contrastive_span_pair import METRICS as CSPO_METRICS
from spe_dist.methods.spe.contrastive_span_pair import ContrastiveSpanPairObjective, NoContrast
from spe_dist.methods.spe.permutations import NUM_CLASSES
from spe_dist.methods.spe.token_boundary import TokenBoundaryObjective
from spe_dist.moco.key_queue import Negatives
from spe_dist.models.from_sizes import span_encoder_of
from spe_dist.models.projection_head import ProjectionHead
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.models.span_pair_encoder import SpanPairEncoder
from spe_dist.models.transform_block import TransformBlock
from spe_dist.objectives.classifier import Classifier, NoObjective

METRICS = ("tbo_pair_found", "tbo_context_found", "spo_pair_found", "spo_context_found", *CSPO_METRICS)


@dataclass(frozen=True)
class Encoded:
    """What `SpeEncoder` makes of a batch; parts that no objective needs hold nothing."""

    states: Tensor  # [P, H]
    spans: Tensor  # [2 R, 5, span size] if CSPO is on and SPO reads the views, else [Q, span size] of permuted spans
    queries: Tensor  # [2 R, D]


class SpeEncoder(nn.Module):
    """f of the paper's Figure 6: sentence encoder, span encoder, span pair encoder and projection head.

    Args:
        config: the run.
        sentence_encoder: its sentence encoder.
    """

    def __init__(self, config: SpeConfig, sentence_encoder: SentenceEncoder) -> None:
        super().__init__()
        hidden, size, dropout = sentence_encoder.hidden_size, config.span_encoder.size, config.heads_dropout
        contrast = config.cspo.weight > 0
        self.normalize = config.cspo.normalize
        self.sentence_encoder = sentence_encoder
        self.span_encoder = self.pair_encoder = self.head = None
        if contrast or config.spo.weight > 0:
            self.span_encoder = span_encoder_of(config.span_encoder, hidden, dropout=dropout)
        if contrast:
            self.pair_encoder = SpanPairEncoder(
                size,
                hidden,
                attention_size=config.pair_encoder.attention_size,
                position_size=config.pair_encoder.position_size,
                dropout=dropout,
            )
        if contrast and config.cspo.head:
            self.head = ProjectionHead(size, hidden, dropout=dropout)
        self.key_size = hidden if config.cspo.head else size

    def forward(self, batch: SpanPairBatch) -> Tensor:
        """Queries or keys of both views, [2 R, D]."""
        return self.encode(batch.views).queries

    def encode(self, batch: SpanPairBatch) -> Encoded:
        """States of pieces, vectors of spans and queries of span pairs."""
        states = self.sentence_encoder(batch.packed)
        nothing = states.new_zeros(0, 0)
        if self.span_encoder is None:
            return Encoded(states, nothing, nothing)
        words, bounds = states[batch.word_pieces], batch.word_spans
        if self.pair_encoder is None:  # only the permuted spans are needed
            return Encoded(
                states, self.span_encoder(words, *bounds.flatten(0, 1)[batch.spo_spans].T.contiguous()), nothing
            )
        views = 2 * len(batch.record_ids)
        of_views, needed = bounds[:views], bounds[:views].flatten(0, 1)
        reads_whole = len(bounds) > views
        if reads_whole:  # of whole sentences only the permuted spans
            needed = torch.cat([needed, bounds.flatten(0, 1)[batch.spo_spans]])
        encoded = self.span_encoder(words, *needed.T.contiguous())
        spans = encoded[: views * NUM_SPANS].unflatten(0, (views, NUM_SPANS))
        sentences = states[batch.packed.sequence_starts[:views]]
        queries = self.pair_encoder(spans, sentences, empty=of_views[..., 0] == of_views[..., 1])
        if self.head is not None:
            queries = self.head(queries)
        if self.normalize:
            queries = nn.functional.normalize(queries.float(), dim=1)
        return Encoded(states, encoded[views * NUM_SPANS :] if reads_whole else spans, queries)


class SpeModel(nn.Module):
    """Everything that is trained: the encoder and the heads of TBO and SPO.

    Args:
        config: the run.
        encoder: f of Figure 6.
    """

    def __init__(self, config: SpeConfig, encoder: SpeEncoder) -> None:
        super().__init__()
        if not (config.tbo.weight or config.spo.weight or config.cspo.weight):
            raise UserError("tbo.weight, spo.weight and cspo.weight are all 0: nothing would be trained")
        self.encoder = encoder
        sentences, size, dropout = encoder.sentence_encoder, config.span_encoder.size, config.heads_dropout
        self.tbo: nn.Module = NoObjective()
        self.spo: nn.Module = NoObjective()
        self.cspo: nn.Module = NoContrast()
        if config.tbo.weight > 0:
            self.tbo = TokenBoundaryObjective(
                sentences.hidden_size,
                sentences.word_embeddings,
                offset_size=config.tbo.offset_size,
                tied=config.tbo.tied,
                dropout=dropout,
            )
        if config.spo.weight > 0:
            self.spo = Classifier(size, NUM_CLASSES, block=TransformBlock(size, size, dropout=dropout))
        if config.cspo.weight > 0:
            self.cspo = ContrastiveSpanPairObjective(temperature=config.cspo.temperature)

    def forward(
        self, batch: SpanPairBatch, keys: Tensor | None = None, negatives: Negatives | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and metrics of a batch, as sums over its items.

        Args:
            batch: the forward's records.
            keys: keys of both views, from the momentum encoder, [2 R, D]; None without CSPO.
            negatives: the queue; None without CSPO.

        Returns:
            losses [5], one for each of `TERMS`; metrics [7], of `METRICS`, and the queries [2 R, D] (none
            without CSPO), both without gradient.
        """
        encoded = self.encoder.encode(batch)
        anchors = encoded.states[batch.tbo_anchors]
        tbo = _sum_views(self.tbo(anchors, batch.tbo_offsets, batch.tbo_targets), batch.tbo_views)
        spans = encoded.spans
        permuted = spans.flatten(0, 1)[batch.spo_spans] if spans.dim() == 3 else spans
        spo = _sum_views(self.spo(permuted, batch.spo_classes), batch.spo_views)
        cspo, contrast = self.cspo(encoded.queries, keys, negatives)
        losses = torch.cat([tbo[0], spo[0], cspo.sum()[None]])
        return losses, torch.cat([tbo[1], spo[1], contrast]), encoded.queries.detach()


def new_model(config: SpeConfig, hf_config: PretrainedConfig, manifest: Manifest | None) -> SpeModel:
    """The model of a run with new weights, its sentence encoder of the given sizes."""
    return SpeModel(config, SpeEncoder(config, new_sentence_encoder(hf_config)))


def _sum_views(scored: tuple[Tensor, Tensor], views: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of losses and of found items over the pair view and over the context view, [2] each."""
    losses, found = scored
    in_view = torch.stack([views == 0, views == 1])
    return (in_view * losses).sum(dim=1), (in_view & found).sum(dim=1).float()
