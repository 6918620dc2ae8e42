"""RD, relation discrimination (ERICA paper): pairs of the same relation are nearer than others.

The vector of a pair is [head; tail]. Its cosine with another one follows from products of entities, so no vector of a
pair is made or sent: at the paper's size, 2,048 documents, entities take a sixth of the memory of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_shards.ragged import IntArray
from spe_dist.batches.batch import send
from spe_dist.methods.erica.fact_pairs import HEAD, NA, RELATION, TAIL


@dataclass(frozen=True)
class ComparedPairs:
    """N rows of facts and unrelated pairs, as scores need them."""

    heads: Tensor  # [N]
    tails: Tensor  # [N]
    relations: Tensor  # [N] numbers of the Y relations that occur; Y for none
    ordered_pairs: Tensor  # [N] number of the ordered pair of entities, which several facts may share
    holds: Tensor  # [Y + 1, ordered pairs] bool: is the pair so related?
    groups: Tensor  # [N] only rows of the same group are compared

    @classmethod
    def of(cls, pairs: IntArray, groups: IntArray, device: torch.device) -> ComparedPairs:
        """From rows of `fact_pairs` on the host; nothing here waits for the device."""
        heads, tails = pairs[:, HEAD], pairs[:, TAIL]
        is_fact = pairs[:, RELATION] != NA
        known = np.unique(pairs[is_fact, RELATION])
        relations = np.where(is_fact, np.searchsorted(known, pairs[:, RELATION]), len(known))
        numbers, ordered_pairs = np.unique(heads * (tails.max(initial=0) + 1) + tails, return_inverse=True)
        holds = np.zeros((len(known) + 1, len(numbers)), dtype=np.bool_)
        holds[relations[is_fact], ordered_pairs[is_fact]] = True
        arrays = (heads, tails, relations, ordered_pairs, holds, groups)
        return cls(*(send(torch.from_numpy(np.ascontiguousarray(array)), device) for array in arrays))


def allowed_negatives(pairs: ComparedPairs, anchors: Tensor, columns: Tensor) -> Tensor:
    """Which rows may be negatives of an anchor, [A, n] bool.

    Not those of its relation, nor other relations of a pair that holds its relation too; nor those of its document that
    share its head or its tail.

    Args:
        pairs: the rows.
        anchors: rows of facts, [A].
        columns: rows drawn for each, [A, n], or the same for all, [n].
    """
    columns = columns.expand(len(anchors), -1)
    holds = pairs.holds[pairs.relations[anchors][:, None], pairs.ordered_pairs[columns]]
    shares = (pairs.heads[columns] == pairs.heads[anchors][:, None]) | (
        pairs.tails[columns] == pairs.tails[anchors][:, None]
    )
    return ~(holds | shares)


def relation_discrimination(
    entities: Tensor,
    pairs: ComparedPairs,
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of picking the positive of each anchor among its negatives.

    Args:
        entities: their vectors, [K, H] fp32.
        pairs: rows of facts and unrelated pairs of these entities.
        anchors: rows that are compared, [A].
        positives: the row of each one's positive, [A].
        negatives: rows drawn for each, [A, n]; n = 0: all of its group.
        temperature: divides cosines.

    Returns:
        losses [A] fp32; whether the positive is nearer than every negative, [A] bool; numbers of negatives, [A].
    """
    squares = entities.square().sum(dim=1)
    lengths = (squares[pairs.heads] + squares[pairs.tails]).sqrt().clamp(min=1e-12)  # of the pairs
    by_head = entities[pairs.heads[anchors]] @ entities.T
    by_tail = entities[pairs.tails[anchors]] @ entities.T
    if negatives.shape[1]:
        columns, allowed = negatives, allowed_negatives(pairs, anchors, negatives)
    else:
        every = torch.arange(len(pairs.heads), device=entities.device)
        columns, allowed = every.expand(len(anchors), -1), allowed_negatives(pairs, anchors, every)
        allowed &= pairs.groups == pairs.groups[anchors][:, None]
    columns = torch.cat([positives[:, None], columns], dim=1)
    products = by_head.gather(1, pairs.heads[columns]) + by_tail.gather(1, pairs.tails[columns])
    logits = products / (lengths[anchors][:, None] * lengths[columns] * temperature)
    logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(~allowed, -torch.inf)], dim=1)
    losses = logits.logsumexp(dim=1) - logits[:, 0]
    rest = logits[:, 1:].detach()
    nearest = rest.amax(dim=1) if rest.shape[1] else rest.new_full((len(rest),), -torch.inf)
    return losses, logits[:, 0].detach() > nearest, allowed.sum(dim=1)
