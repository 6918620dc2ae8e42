"""InfoNCE against a queue (MoCo; SPE paper): the positive among one positive and many negatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class InfoNce:
    """What came of R queries against K negatives."""

    losses: Tensor  # [R] fp32
    positives: Tensor  # [R] similarity of query and positive key, without temperature, detached
    negatives: Tensor  # [R, K] similarity of query and negative keys, detached

    def found(self) -> Tensor:
        """Whether the positive is nearer than every negative, [R] bool."""
        if not self.negatives.shape[1]:
            return torch.ones_like(self.positives, dtype=torch.bool)
        return self.positives > self.negatives.amax(dim=1)


def info_nce(queries: Tensor, positives: Tensor, negatives: Tensor, *, temperature: float) -> InfoNce:
    """Cross-entropy of picking the positive.

    Args:
        queries: [R, D].
        positives: the key of each query, [R, D]; no gradient flows into keys.
        negatives: keys of other records, [K, D]; K may be 0 (the loss is then 0).
        temperature: divides the similarities, which are dot products.
    """
    queries = queries.float()
    positive = (queries * positives).sum(dim=1)
    negative = queries @ negatives.T
    others = torch.logsumexp(negative / temperature, dim=1)
    losses = torch.logaddexp(positive / temperature, others) - positive / temperature
    return InfoNce(losses, positive.detach(), negative.detach())
