"""The model: mean of the mention's states, a linear layer without bias, each type decided alone (ERNIE, ERICA)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spe_dist.batches.batch import PackedSequences
from spe_dist.documents.pooled_vectors import PooledPieces
from spe_dist.finetuning.losses import Losses
from spe_dist.models.sentence_encoder import SentenceEncoder


@dataclass(frozen=True)
class TypingLabels:
    """What, with the weights, rebuilds a model."""

    types: tuple[str, ...]
    """Types of mentions, in the order of the model's scores."""
    max_pieces: int
    threshold: float
    """Lowest probability at which a type counts; the most probable type always counts."""
    language: str


class EntityTypingModel(nn.Module):
    """Scores every type of a mention.

    Args:
        sentence_encoder: reads the sentence.
        labels: the types, and from which probability on they count.
    """

    def __init__(self, sentence_encoder: SentenceEncoder, labels: TypingLabels) -> None:
        super().__init__()
        self.sentence_encoder = sentence_encoder
        self.labels = labels
        self.types = nn.Linear(sentence_encoder.hidden_size, len(labels.types), bias=False)
        nn.init.xavier_uniform_(self.types.weight)

    def scores(self, packed: PackedSequences, mentions: PooledPieces) -> Tensor:
        """Logits in fp32, [mentions, types]."""
        vectors = mentions.means(self.sentence_encoder(packed))
        return self.types(vectors.to(self.types.weight.dtype)).float()

    def forward(self, packed: PackedSequences, mentions: PooledPieces, gold: Tensor) -> Losses:
        """Binary cross-entropy, mean over mentions and types; gold is 0 or 1, [mentions, types]."""
        scores = self.scores(packed, mentions)
        loss = nn.functional.binary_cross_entropy_with_logits(scores, gold)
        right = (decide(scores, 0.5) == (gold > 0)).all(1).sum()
        return Losses(loss[None], right[None], torch.tensor([len(gold)]))


def decide(scores: Tensor, threshold: float) -> Tensor:
    """Which types count, bool [mentions, types]: those above the threshold, and always the best one."""
    best = nn.functional.one_hot(scores.argmax(1), scores.shape[1]).bool()
    return best | (scores > torch.tensor(threshold).logit().item())
