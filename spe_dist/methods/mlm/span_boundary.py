"""SBO, the span boundary objective (SpanBERT paper): recover a hidden piece from the states beside its span."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spe_dist.models.transform_block import INITIAL_STD, TransformBlock
from spe_dist.objectives.classifier import classify

MOST_TARGETS = 20  # of a span; its further pieces are left to masked language modelling, as in the paper's program


class SpanBoundaryObjective(nn.Module):
    """[state before ; state after ; embedding of the position] → two blocks → logits over the vocabulary.

    Args:
        hidden_size: size of the states, H.
        word_embeddings: the encoder's table [vocabulary, embedding size], shared with the decoder.
        position_size: size of a position embedding.
    """

    def __init__(self, hidden_size: int, word_embeddings: nn.Embedding, *, position_size: int) -> None:
        super().__init__()
        vocab_size, embedding_size = word_embeddings.weight.shape
        self.positions = nn.Embedding(MOST_TARGETS, position_size)
        self.blocks = nn.Sequential(
            TransformBlock(2 * hidden_size + position_size, hidden_size, dropout=0.0),
            TransformBlock(hidden_size, embedding_size, dropout=0.0),
        )
        self.decoder = nn.Linear(embedding_size, vocab_size)
        nn.init.normal_(self.positions.weight, std=INITIAL_STD)
        nn.init.zeros_(self.decoder.bias)
        self.decoder.weight = word_embeddings.weight

    def forward(self, boundaries: Tensor, positions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Score hidden pieces.

        Args:
            boundaries: states before and after the span of each, [B, 2, H].
            positions: positions of the pieces in their spans, from 0, [B].
            targets: ids of the pieces, [B].

        Returns:
            Cross-entropy of each piece [B] in fp32, and whether it was found [B] bool.
        """
        inputs = torch.cat([boundaries.flatten(1), self.positions(positions)], dim=1)
        return classify(self.decoder(self.blocks(inputs)), targets)
