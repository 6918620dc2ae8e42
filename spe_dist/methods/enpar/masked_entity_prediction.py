"""MEP, masked entity prediction (ENPAR paper): recover the pieces of entities that were masked or replaced."""

from __future__ import annotations

from torch import Tensor, nn

from spe_dist.models.transform_block import TransformBlock


class MaskedEntityPrediction(nn.Module):
    """State → transform block → logits over the vocabulary, decoded by the encoder's own word embeddings.

    Args:
        hidden_size: of the states, H.
        word_embeddings: the encoder's table [vocabulary, embedding size], shared with the decoder.
    """

    def __init__(self, hidden_size: int, word_embeddings: nn.Embedding) -> None:
        super().__init__()
        vocab_size, embedding_size = word_embeddings.weight.shape
        self.block = TransformBlock(hidden_size, embedding_size, dropout=0.0)  # none in the paper's program either
        self.decoder = nn.Linear(embedding_size, vocab_size)
        nn.init.zeros_(self.decoder.bias)
        self.decoder.weight = word_embeddings.weight

    def forward(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Score hidden pieces.

        Args:
            states: of the hidden pieces, [T, H].
            targets: ids of the pieces that were there, [T].

        Returns:
            Cross-entropy of each piece [T] in fp32, and whether it was found [T] bool.
        """
        logits = self.decoder(self.block(states)).float()
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        return losses, logits.detach().argmax(dim=1) == targets
