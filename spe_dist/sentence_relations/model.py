"""The model: v = [head ; tail], means of states, and one linear layer, as MTB, CP and ERICA."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spe_dist.batches.batch import PackedSequences
from spe_dist.documents.pooled_vectors import PooledPieces
from spe_dist.finetuning.losses import Losses
from spe_dist.models.sentence_encoder import SentenceEncoder


@dataclass(frozen=True)
class RelationLabels:
    """What, with the weights, rebuilds a model."""

    relations: tuple[str, ...]
    """Relations, in the order of their classes."""
    no_relation: str | None
    """What the data call the class of no relation, which comes first; None if they have none."""
    pooling: str
    max_pieces: int
    language: str

    @property
    def classes(self) -> tuple[str | None, ...]:
        """Relations in the order of classes; None is no relation."""
        return self.relations if self.no_relation is None else (None, *self.relations)


class SentenceRelationModel(nn.Module):
    """Classifies the relation of two marked entities.

    Args:
        sentence_encoder: with rows for the markers.
        labels: which relations, and how entities are pooled.
    """

    def __init__(self, sentence_encoder: SentenceEncoder, labels: RelationLabels) -> None:
        super().__init__()
        self.sentence_encoder = sentence_encoder
        self.labels = labels
        self.relations = nn.Linear(2 * sentence_encoder.hidden_size, len(labels.classes))

    def scores(self, packed: PackedSequences, entities: PooledPieces) -> Tensor:
        """Logits in fp32, [S, classes]; entities are head and tail of each sequence in turn, [2 S]."""
        vectors = entities.means(self.sentence_encoder(packed))
        pairs = vectors.reshape(-1, 2 * vectors.shape[1])
        return self.relations(pairs.to(self.relations.weight.dtype)).float()

    def forward(self, packed: PackedSequences, entities: PooledPieces, classes: Tensor) -> Losses:
        """Cross-entropy of the classes, [S]."""
        scores = self.scores(packed, entities)
        loss = nn.functional.cross_entropy(scores, classes)
        right = (scores.argmax(1) == classes).sum()
        return Losses(loss[None], right[None], torch.tensor([len(classes)]))
