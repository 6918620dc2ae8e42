"""Masked language modelling, with BERT's own head: recover hidden pieces from their states."""

from __future__ import annotations

from torch import Tensor, nn

from spe_dist.models.transform_block import TransformBlock
from spe_dist.objectives.classifier import classify


class MaskedLanguageModelling(nn.Module):
    """State → transform block → logits over the vocabulary, decoded by the encoder's own word embeddings.

    Args:
        hidden_size: of the states, H.
        word_embeddings: the encoder's table [vocabulary, embedding size], shared with the decoder.
        dropout: in the block.
    """

    def __init__(self, hidden_size: int, word_embeddings: nn.Embedding, *, dropout: float) -> None:
        super().__init__()
        vocab_size, embedding_size = word_embeddings.weight.shape
        self.block = TransformBlock(hidden_size, embedding_size, dropout=dropout)
        self.decoder = nn.Linear(embedding_size, vocab_size)
        nn.init.zeros_(self.decoder.bias)
        self.decoder.weight = word_embeddings.weight

    def forward(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Score the states of hidden pieces [T, H] against the pieces that were there [T]; see `classify`."""
        return classify(self.decoder(self.block(states)), targets)
