"""Scores that mean what they say: of the predictions with a score of 0.8, four of five are right.

A model's own probabilities are too sure of themselves. On dev, whose answers are known, a logistic regression from the
logits of the model's probabilities to right or wrong gives a few numbers for entities and for relations. For entities
that is Platt scaling (1999) and changes no order. A relation can be wrong in more ways: its score knows the relation's
own probability, the weaker of its arguments, how far apart these are, and how many entities stand in the sentence.
No decision is changed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT

_EDGE = 1e-12  # probabilities nearer to 0 or 1 have no logit to speak of
_STEPS, _HALVINGS = 100, 60
_PRIOR = 1.0  # strength with which few predictions are held to the model's own scores

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Scaling:
    """features → sigmoid(weights · features + shift)."""

    weights: tuple[float, ...]
    shift: float

    @classmethod
    def fit(cls, features: Floats, right: NDArray[np.bool_]) -> Scaling:
        """The scaling of the greatest likelihood, held to the first feature alone where data are few.

        Newton's steps are halved until the likelihood grows: most scores of a model that has learned its data by heart
        are so near to 1 that a whole step would lead far away.

        Args:
            features: features of predictions, the first the logit of the model's own probability, [N, K].
            right: whether each was right, [N].
        """
        columns = np.concatenate([features, np.ones((len(features), 1))], axis=1)
        start = np.eye(1, columns.shape[1])[0]
        signs = np.where(right, 1.0, -1.0)

        def badness(weights: Floats) -> float:
            return float(
                np.logaddexp(0, -signs * (columns @ weights)).sum() + _PRIOR / 2 * ((weights - start) ** 2).sum()
            )

        weights, least = start, badness(start)
        for _ in range(_STEPS):
            probabilities = _sigmoid(columns @ weights)
            gradient = columns.T @ (probabilities - right) + _PRIOR * (weights - start)
            curvature = (columns * (probabilities * (1 - probabilities))[:, None]).T @ columns
            step = np.linalg.solve(curvature + _PRIOR * np.eye(len(start)), gradient)
            tried = (weights - step / 2**halved for halved in range(_HALVINGS))
            better = next((each for each in tried if badness(each) < least), None)
            if better is None:
                break
            weights, least = better, badness(better)
        return cls(weights=tuple(weights[:-1].tolist()), shift=float(weights[-1]))

    def __call__(self, features: Floats) -> Floats:
        """Probabilities that predictions are right, [N]."""
        return _sigmoid(features @ np.array(self.weights) + self.shift)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Calibration:
    """How probabilities become scores, fitted on dev."""

    entities: Scaling
    relations: Scaling


def entity_features(probabilities: Floats) -> Floats:
    """What the score of an entity is made of, [N, 1].

    Args:
        probabilities: the model's own, of span and type together, [N].
    """
    return _logit(probabilities)[:, None]


def relation_features(
    probabilities: Floats, arguments: Floats, distances: NDArray[np.int64], entities: NDArray[np.int64]
) -> Floats:
    """What the score of a relation is made of, [M, 4].

    Args:
        probabilities: the model's own, of the relation if its arguments are right, [M].
        arguments: the model's own, of both arguments, [M, 2].
        distances: words between the arguments, [M].
        entities: number of entities that are found in the sentence, [M].
    """
    return np.stack(
        [_logit(probabilities), _logit(arguments.min(axis=1)), np.log1p(distances), np.log(entities)], axis=1
    )


def calibration_error(scores: Floats, right: NDArray[np.bool_], *, bins: int = 10) -> float:
    """Expected calibration error: mean distance between score and share of right predictions, in bins of equal size.

    Args:
        scores: scores of predictions, in 0..1, [N].
        right: whether each was right, [N].
        bins: how many; the predictions are sorted by score and cut into so many parts.
    """
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(abs(scores[part].sum() - right[part].sum()) for part in parts) / max(len(scores), 1))


def ranking_auc(scores: Floats, right: NDArray[np.bool_]) -> float:
    """Probability that a right prediction has a higher score than a wrong one (ties count half); nan without either."""
    positives, negatives = np.sort(scores[right]), np.sort(scores[~right])
    if not len(positives) or not len(negatives):
        return float("nan")
    below = np.searchsorted(negatives, positives, side="left") + np.searchsorted(negatives, positives, side="right")
    return float(below.sum() / (2 * len(positives) * len(negatives)))


def _logit(scores: Floats) -> Floats:
    clipped = np.clip(np.asarray(scores, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.log(clipped / (1 - clipped))


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
