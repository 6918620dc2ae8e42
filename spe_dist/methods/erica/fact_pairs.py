"""Which facts relation discrimination compares: a positive for each fact, and draws for its negatives. Pure numpy.

A *pair* is a row of facts (head, relation, tail) and of unrelated pairs (NA) of some documents:
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, concat_ranges
from spe_dist.batches.random_draws import FloatArray

HEAD, TAIL = 0, 1  # numbers of entities; no two documents share one
RELATION = 2  # number of the relation, or NA
SINGLE = 3  # 1 if a sentence mentions both
HEAD_ID, TAIL_ID = 4, 5  # identities: what the knowledge base calls the entities; equal in two documents
LANE = 6  # that the document is of
COLUMNS = 7
NA = -1  # no relation; unlike the paper's program, no relation has this number
STEP = -1  # in place of a lane: the group of all documents of a step
_RELATIONS = 5  # keeps these random numbers apart from others of the seed


@dataclass(frozen=True)
class RelationDraws:
    """A facts to be compared: their rows, the row of the positive of each, and rows drawn for its negatives [A, n].

    A fact with several positives is there several times.
    """

    anchors: NDArray[np.int64]  # ascending
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    def between(self, first: int, last: int) -> RelationDraws:
        """Draws whose anchors are rows first … last - 1."""
        chosen = slice(*np.searchsorted(self.anchors, (first, last)))
        return RelationDraws(self.anchors[chosen], self.positives[chosen], self.negatives[chosen])


def draw_relations(
    pairs: IntArray, groups: IntArray, uniforms: FloatArray, *, terms: Collection[str], every: bool
) -> RelationDraws:
    """Choose positives and draw negatives.

    The facts of a relation are put in a random cycle, and the positive of each is the next one, or with `every` each
    other one in turn. A fact of the same document that shares its head or tail is no positive; a fact without one is no
    anchor.

    Args:
        pairs: rows of facts and unrelated pairs, [N, COLUMNS].
        groups: only rows of the same group are compared, [N] ascending.
        uniforms: random numbers in [0, 1) for each fact, one for the cycle and n for negatives, [facts, 1 + n].
        terms: kinds of anchor and positive that are compared, such as "sc": a single fact with a cross-sentence one.
            Facts of a kind that occurs in no term have no part in the cycle.
        every: whether a fact is an anchor once for each other one of its relation, not only for the next.
    """
    kind = np.where(pairs[:, SINGLE] == 1, "s", "c")
    facts = np.flatnonzero(pairs[:, RELATION] != NA)
    takes_part = np.isin(kind[facts], list({one for term in terms for one in term}))
    rows, drawn = facts[takes_part], uniforms[takes_part]
    order = np.lexsort((drawn[:, 0], pairs[rows, RELATION], groups[rows]))
    cycle = rows[order]
    keys = np.stack([groups[cycle], pairs[cycle, RELATION]])
    is_first = np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0))[: len(cycle)]
    firsts = np.flatnonzero(is_first)
    lengths = np.diff(np.append(firsts, len(cycle)))
    first, length = np.repeat(firsts, lengths), np.repeat(lengths, lengths)
    others = np.minimum(length - 1, len(cycle) if every else 1)
    place = np.repeat(np.arange(len(cycle)), others)
    ahead = 1 + concat_ranges(np.zeros_like(others), others)
    anchor, positive = cycle[place], cycle[first[place] + (place - first[place] + ahead) % length[place]]
    allowed = (pairs[anchor, HEAD] != pairs[positive, HEAD]) & (pairs[anchor, TAIL] != pairs[positive, TAIL])
    allowed &= np.isin(np.char.add(kind[anchor], kind[positive]), list(terms))
    kept = np.flatnonzero(allowed)
    kept = kept[np.argsort(anchor[kept], kind="stable")]
    anchors = anchor[kept]
    of_anchor = np.searchsorted(rows, anchors)
    first, size = np.searchsorted(groups, groups[anchors]), np.searchsorted(groups, groups[anchors], side="right")
    size = size - first
    negatives = first[:, None] + (drawn[of_anchor, 1:] * size[:, None]).astype(np.int64)
    return RelationDraws(anchors, positive[kept], negatives)


def relation_uniforms(pairs: IntArray, groups: IntArray, *, seed: int, step: int, columns: int) -> FloatArray:
    """The random numbers of the facts of each group, [facts, columns]: they depend on no other group.

    Args:
        pairs: rows of facts and unrelated pairs.
        groups: lanes, or STEP, [N] ascending.
        seed: the run's seed.
        step: the optimizer step.
        columns: numbers for each fact.
    """
    of_facts, counts = np.unique(groups[pairs[:, RELATION] != NA], return_counts=True)
    drawn = [np.empty((0, columns))]
    for group, count in zip(of_facts.tolist(), counts.tolist(), strict=True):
        key = np.random.SeedSequence((_RELATIONS, seed, step, group - STEP))
        drawn.append(np.random.Generator(np.random.Philox(key)).random((count, columns)))
    return np.concatenate(drawn)
