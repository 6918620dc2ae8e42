"""ED, entity discrimination (ERICA paper): with a relation in front, its tail is the entity nearest to its head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def entity_discrimination(
    entities: Tensor, heads: Tensor, candidates: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of picking the tail among the other entities of the document, by cosine with the head.

    Args:
        entities: their vectors, [E, H] fp32.
        heads: the entity that each question is about, [Q].
        candidates: entities, the right one first, [Q, most]; -1 beyond the last.
        temperature: divides cosines.

    Returns:
        losses [Q] fp32; whether the right one is nearer than every other, [Q] bool.
    """
    # A temperature of 0.05 makes twenty times as much of every rounding.
    unit = nn.functional.normalize(entities.double(), dim=1)
    cosines = torch.einsum("qh,qch->qc", unit[heads], unit[candidates.clamp(min=0)])
    logits = (cosines / temperature).masked_fill(candidates < 0, -torch.inf)
    right, others = logits[:, 0], logits[:, 1:].detach()
    nearest = others.amax(dim=1) if others.shape[1] else torch.full_like(right, -torch.inf)
    return (logits.logsumexp(dim=1) - right).float(), right.detach() > nearest
