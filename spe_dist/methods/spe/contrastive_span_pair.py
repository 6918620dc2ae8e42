"""CSPO, the contrastive span pair objective (SPE paper): a pair belongs with its context.

The pair view queries with the context view's key as its positive and the context queue as negatives, and the other way
round; the loss is the mean of both directions. (The paper's Figure 6 feeds the pair view to the key encoder for
`context_k`; that is a misprint.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spe_dist.moco.key_queue import Negatives
from spe_dist.objectives.info_nce import InfoNce, info_nce

METRICS = ("found", "positive_similarity", "negative_similarity")


class ContrastiveSpanPairObjective(nn.Module):
    """No parameters: two InfoNCE losses and what to watch.

    Args:
        temperature: temperature of the softmax.
    """

    def __init__(self, *, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, queries: Tensor, keys: Tensor, negatives: Negatives) -> tuple[Tensor, Tensor]:
        """Contrast both views.

        Args:
            queries: pair views, then context views, [2 R, D].
            keys: keys of the same views from the momentum encoder, [2 R, D].
            negatives: the queue.

        Returns:
            Loss of each record [R] in fp32, and the sums named in `METRICS` [3], each over records and the mean of
            both directions.
        """
        pair_query, context_query = queries.chunk(2)
        pair_key, context_key = keys.chunk(2)
        by_pair = info_nce(pair_query, context_key, negatives.context_keys, temperature=self.temperature)
        by_context = info_nce(context_query, pair_key, negatives.pair_keys, temperature=self.temperature)
        return (by_pair.losses + by_context.losses) / 2, (_measure(by_pair) + _measure(by_context)) / 2


class NoContrast(nn.Module):
    """Stands in for CSPO if its weight is 0: no records, no metrics."""

    def forward(self, queries: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        """Losses of no records [0], and zeros [3] for `METRICS`."""
        return torch.zeros(0, device=queries.device), torch.zeros(len(METRICS), device=queries.device)


STEP_METRICS = ("found_in_step",)


@torch.no_grad()
def count_found_in_step(queries: Tensor, keys: Tensor, first: int) -> Tensor:
    """How many records find their other view's key among the keys of the whole step, as the mean of both directions.

    All of these keys are made by one key encoder. Those in the queue are older than the positive: a query may find its
    key by the age alone.

    Args:
        queries: queries of this rank's records, pair views and context views, [2, R, D].
        keys: keys of all records of the step in global order, pair views and context views, [2, G, D].
        first: the global place of this rank's first record.

    Returns:
        The sum over this rank's records, [] fp32.
    """
    (pair_query, context_query), (pair_key, context_key) = queries.float(), keys
    return (_find_own(pair_query, context_key, first) + _find_own(context_query, pair_key, first)) / 2


def _find_own(queries: Tensor, keys: Tensor, first: int) -> Tensor:
    similarity = queries @ keys.T
    own = torch.arange(first, first + len(queries), device=similarity.device)[:, None]
    others = similarity.scatter(1, own, float("-inf"))
    return (similarity.gather(1, own) > others.amax(dim=1, keepdim=True)).sum().float()


@torch.no_grad()
def _measure(result: InfoNce) -> Tensor:
    negatives = result.negatives.mean(dim=1).nan_to_num()
    return torch.stack([result.found().sum(), result.positives.sum(), negatives.sum()]).float()
