"""TBO, the token boundary objective (SPE paper): recover a word's inner pieces from its first piece."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spe_dist.models.transform_block import INITIAL_STD, TransformBlock
from spe_dist.objectives.classifier import classify

LARGEST_OFFSET = 150


class TokenBoundaryObjective(nn.Module):
    """[anchor state ; embedding of the offset in the word] → transform block → logits over the vocabulary.

    Args:
        hidden_size: size of the states, H.
        word_embeddings: the encoder's table [vocabulary, H]; shared with the decoder if `tied`.
        offset_size: size of an offset embedding.
        tied: whether the decoder is the table itself or a new matrix.
        dropout: in the block.
    """

    def __init__(
        self, hidden_size: int, word_embeddings: nn.Embedding, *, offset_size: int, tied: bool, dropout: float
    ) -> None:
        super().__init__()
        vocab_size, embedding_size = word_embeddings.weight.shape
        self.offsets = nn.Embedding(LARGEST_OFFSET, offset_size)
        self.block = TransformBlock(hidden_size + offset_size, embedding_size, dropout=dropout)
        self.decoder = nn.Linear(embedding_size, vocab_size)
        nn.init.normal_(self.offsets.weight, std=INITIAL_STD)
        nn.init.normal_(self.decoder.weight, std=INITIAL_STD)
        nn.init.zeros_(self.decoder.bias)
        if tied:
            self.decoder.weight = word_embeddings.weight

    def forward(self, anchors: Tensor, offsets: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Score hidden pieces.

        Args:
            anchors: states of the first pieces of their words, [T, H].
            offsets: offsets of the hidden pieces in their words, at least 1, [T].
            targets: ids of the hidden pieces, [T].

        Returns:
            Cross-entropy of each piece [T] in fp32, and whether it was found [T] bool.
        """
        offsets = self.offsets(offsets.clamp(max=LARGEST_OFFSET - 1))
        return classify(self.decoder(self.block(torch.cat([anchors, offsets], dim=1))), targets)
