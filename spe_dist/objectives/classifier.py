"""Cross-entropy over classes, which most objectives end in; and the objective that is switched off."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spe_dist.models.transform_block import INITIAL_STD


def classify(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each item [N] in fp32, and whether its class has the largest logit [N] bool.

    Args:
        logits: [N, classes].
        targets: the right classes, [N].
    """
    logits = logits.float()
    return nn.functional.cross_entropy(logits, targets, reduction="none"), logits.detach().argmax(dim=1) == targets


class Classifier(nn.Module):
    """Vector → block → logits over classes.

    Args:
        size: size of a vector.
        classes: how many there are.
        block: comes before the linear layer; keeps the size.
    """

    def __init__(self, size: int, classes: int, *, block: nn.Module | None = None) -> None:
        super().__init__()
        self.block = nn.Identity() if block is None else block
        self.classifier = nn.Linear(size, classes)
        nn.init.normal_(self.classifier.weight, std=INITIAL_STD)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, vectors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Score vectors [N, size] against their classes [N], as `classify`."""
        return classify(self.classifier(self.block(vectors)), targets)


class NoObjective(nn.Module):
    """Stands in for an objective of weight 0: no parameters, no items."""

    def forward(self, vectors: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        """Losses and metrics of no items, [0] fp32 and [0] bool."""
        nothing = torch.zeros(0, device=vectors.device)
        return nothing, nothing.bool()
