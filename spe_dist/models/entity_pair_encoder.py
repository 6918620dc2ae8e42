"""Vectors of entity pairs (ENPAR paper): both entities and what is around them, side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spe_dist.models.transform_block import TransformBlock


class EntityPairEncoder(nn.Module):
    """[left ; first entity ; middle ; second entity ; right] → transform block; an empty context is a vector of zeros.

    Args:
        entity_size: size of entity vectors.
        context_size: size of the vectors of left, middle and right.
        size: size of a pair vector.
        dropout: in the block.
    """

    def __init__(self, entity_size: int, context_size: int, size: int, *, dropout: float) -> None:
        super().__init__()
        self.size = size
        self.block = TransformBlock(2 * entity_size + 3 * context_size, size, dropout=dropout)

    def forward(self, entities: Tensor, contexts: Tensor, empty: Tensor) -> Tensor:
        """Encode pairs.

        Args:
            entities: vectors of first and second entity, [C, 2, entity_size].
            contexts: vectors of left, middle and right, [C, 3, context_size].
            empty: which contexts hold no word, [C, 3] bool.

        Returns:
            [C, size].
        """
        left, middle, right = contexts.masked_fill(empty[:, :, None], 0.0).unbind(1)
        first, second = entities.unbind(1)
        return self.block(torch.cat([left, first, middle, second, right], dim=1))

    def from_parts(self, pairs: Tensor, contexts: Tensor, sentences: Tensor, empty: Tensor) -> Tensor:
        """The same, as `SpanPairEncoder.from_parts`; the states of [CLS] are not looked at."""
        return self(pairs, contexts, empty)
