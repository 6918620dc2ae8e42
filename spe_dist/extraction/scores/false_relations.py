"""False relations: how many pairs of entities that are unrelated a model relates.

A pair is unrelated if both entities are gold, on different words, and no relation leads from one to the other in either
direction. It is falsely related if any relation is predicted between exactly these words, whatever its type, its
direction and the types of its arguments. The strict form looks at sentences with two or more entities and without any
relation alone: there a reader has nothing else to be right about.

Few false relations are easily had by finding few relations, so the rate stands beside the recall that is left at the
same least score, and one number is read off: the rate at 90 % of the recall that the model has without a least score.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from spe_dist.extraction.scores.scoring import facts_of

STRICT = "relation_strict_f1"
_KEPT_RECALL = 0.9
_UNSCORED = -1.0  # below any score: not predicted

Pair = frozenset[tuple[int, int]]  # the words of two entities, without direction


@dataclass(frozen=True)
class RelatedShare:
    """What is left of the predicted relations from a score on.

    Args:
        least_score: relations with a lower one are left out.
        recall: share of the gold relations that are found (strict); None if there are none.
        rate: share of the unrelated pairs that are related; None if there are none.
        strict_rate: the same in sentences without any relation.
    """

    least_score: float
    recall: float | None
    rate: float | None
    strict_rate: float | None


@dataclass(frozen=True)
class FalseRelations:
    """Relations between unrelated gold entities.

    Args:
        pairs: unrelated ones.
        strict_pairs: number of these pairs in sentences without any relation.
        curve: at each least score that was asked for.
        at_kept_recall: at the highest least score that keeps 90 % of the recall; None where nothing is found without a
            least score.
    """

    pairs: int
    strict_pairs: int
    curve: tuple[RelatedShare, ...]
    at_kept_recall: RelatedShare | None


def false_relations(
    gold: Sequence[AnnotatedSentence], predicted: Sequence[AnnotatedSentence], least_scores: Sequence[float]
) -> FalseRelations | None:
    """Count the relations between unrelated pairs; None if relations are predicted without scores.

    Args:
        gold: the corpus.
        predicted: the same sentences, in the same order, with predicted entities and relations.
        least_scores: points of the curve.
    """
    if any(relation.score is None for sentence in predicted for relation in sentence.relations):
        return None
    found: list[float] = []  # best score of each gold relation that is found
    related: list[float] = []  # best score of any relation of each unrelated pair
    strict: list[float] = []  # of them, those in sentences without any relation
    for true, guess in zip(gold, predicted, strict=True):
        scores = _score_of_facts(guess)
        found += [scores.get(fact, _UNSCORED) for fact in facts_of(true, STRICT)]
        of_pairs = _score_of_pairs(guess)
        unrelated = [of_pairs.get(pair, _UNSCORED) for pair in unrelated_pairs(true)]
        related += unrelated
        strict += [] if true.relations else unrelated
    columns = np.array(found), np.array(related), np.array(strict)
    return FalseRelations(
        pairs=len(related),
        strict_pairs=len(strict),
        curve=tuple(_share(least, *columns) for least in least_scores),
        at_kept_recall=_at_kept_recall(*columns),
    )


def unrelated_pairs(sentence: AnnotatedSentence) -> set[Pair]:
    """Pairs of entities on different words between which no relation stands in either direction."""
    spans = sorted({(entity.word_start, entity.word_end) for entity in sentence.entities})
    return set(map(frozenset, combinations(spans, 2))) - _score_of_pairs(sentence).keys()


def _score_of_pairs(sentence: AnnotatedSentence) -> dict[Pair, float]:
    """The best score of the relations between the words of two entities; 1 of gold ones."""
    scores: dict[Pair, float] = {}
    for relation in sentence.relations:
        ends = (sentence.entities[relation.head], sentence.entities[relation.tail])
        pair = frozenset((end.word_start, end.word_end) for end in ends)
        scores[pair] = max(scores.get(pair, _UNSCORED), 1.0 if relation.score is None else relation.score)
    return scores


def _score_of_facts(sentence: AnnotatedSentence) -> dict[Hashable, float]:
    scores: dict[Hashable, float] = {}
    for relation in sentence.relations:
        alone = AnnotatedSentence(sentence.words, sentence.entities, (relation,))
        (fact,) = facts_of(alone, STRICT)
        assert relation.score is not None  # looked at before
        scores[fact] = max(scores.get(fact, _UNSCORED), relation.score)
    return scores


def _at_kept_recall(
    found: NDArray[np.float64], related: NDArray[np.float64], strict: NDArray[np.float64]
) -> RelatedShare | None:
    right = np.sort(found[found > _UNSCORED])[::-1]
    if not len(right):
        return None
    kept = int(np.ceil(_KEPT_RECALL * len(right) - 1e-9))
    return _share(float(right[kept - 1]), found, related, strict)


def _share(
    least: float, found: NDArray[np.float64], related: NDArray[np.float64], strict: NDArray[np.float64]
) -> RelatedShare:
    shares = (float((column >= least).mean()) if len(column) else None for column in (found, related, strict))
    return RelatedShare(least, *shares)
