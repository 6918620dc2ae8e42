"""CSPO, the contrastive span pair objective (SPE paper): a pair belongs with its context.

The pair view queries with the context view's key as its positive and the context queue as negatives, and the other way
round; the loss is the mean of both directions. (The paper's Figure 6 feeds the pair view to the key encoder for
`context_k`; that is a misprint.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spe_dist.objectives.info_nce import InfoNce, info_nce


@dataclass(frozen=True)
class Negatives:
    """The queue as it stood at the start of the step; empty slots are left out."""

    pair_keys: Tensor  # [K, D]
    context_keys: Tensor  # [K, D]


MEASURES = ("found", "positive_similarity", "negative_similarity")


class ContrastiveSpanPairObjective(nn.Module):
    """No parameters: two InfoNCE losses and what to watch.

    Args:
        temperature: of the softmax.
    """

    def __init__(self, *, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, queries: Tensor, keys: Tensor, negatives: Negatives) -> tuple[Tensor, Tensor]:
        """Contrast both views.

        Args:
            queries: pair views, then context views, [2 R, D].
            keys: of the same views from the momentum encoder, [2 R, D].
            negatives: the queue.

        Returns:
            Loss of each record [R] in fp32, and the sums named in `MEASURES` [3], each over records and the mean of
            both directions.
        """
        pair_query, context_query = queries.chunk(2)
        pair_key, context_key = keys.chunk(2)
        by_pair = info_nce(pair_query, context_key, negatives.context_keys, temperature=self.temperature)
        by_context = info_nce(context_query, pair_key, negatives.pair_keys, temperature=self.temperature)
        return (by_pair.losses + by_context.losses) / 2, (_measure(by_pair) + _measure(by_context)) / 2


@torch.no_grad()
def _measure(result: InfoNce) -> Tensor:
    negatives = result.negatives.mean(dim=1).nan_to_num()
    return torch.stack([result.found().sum(), result.positives.sum(), negatives.sum()]).float()
