"""Scores that mean what they say: of the predictions with a score of 0.8, four of five are right.

A model's own probabilities are too sure of themselves. On dev, whose answers are known, a logistic regression from the
logit of the model's probability to right or wrong gives two numbers for entities and two for relations (Platt scaling,
1999; with a shift of 0 it is temperature scaling). It changes no order and no decision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT

_EDGE = 1e-12  # probabilities nearer to 0 or 1 have no logit to speak of
_LEAST_SCALE = 1e-3  # the order of scores is kept, whatever dev says
_STEPS, _HALVINGS = 100, 60
_PRIOR = 1.0  # strength with which few predictions are held to the model's own scores


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Scaling:
    """probability → sigmoid(scale · logit + shift)."""

    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def fit(cls, scores: NDArray[np.floating], right: NDArray[np.bool_]) -> Scaling:
        """The scaling of the greatest likelihood, held to the identity where data are few.

        Newton's steps are halved until the likelihood grows: most scores of a model that has learned its data by heart
        are so near to 1 that a whole step would lead far away.

        Args:
            scores: of predictions, in 0..1, [N].
            right: whether each was right, [N].
        """
        logits = np.stack([_logit(scores), np.ones(len(scores))], axis=1)  # [N, 2]
        start = np.array([1.0, 0.0])
        signs = np.where(right, 1.0, -1.0)

        def badness(weights: NDArray[np.float64]) -> float:
            return float(
                np.logaddexp(0, -signs * (logits @ weights)).sum() + _PRIOR / 2 * ((weights - start) ** 2).sum()
            )

        weights, least = start, badness(start)
        for _ in range(_STEPS):
            probabilities = _sigmoid(logits @ weights)
            gradient = logits.T @ (probabilities - right) + _PRIOR * (weights - start)
            curvature = (logits * (probabilities * (1 - probabilities))[:, None]).T @ logits + _PRIOR * np.eye(2)
            step = np.linalg.solve(curvature, gradient)
            tried = (weights - step / 2**halved for halved in range(_HALVINGS))
            better = next((each for each in tried if badness(each) < least), None)
            if better is None:
                break
            weights, least = better, badness(better)
        return cls(scale=max(float(weights[0]), _LEAST_SCALE), shift=float(weights[1]))

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities, [N]."""
        if self == Scaling():
            return scores
        return _sigmoid(self.scale * _logit(scores) + self.shift)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Calibration:
    """How the scores of a model are scaled; as they are, where nothing was fitted."""

    entities: Scaling = Scaling()
    relations: Scaling = Scaling()


def calibration_error(scores: NDArray[np.floating], right: NDArray[np.bool_], *, bins: int = 10) -> float:
    """Expected calibration error: mean distance between score and share of right predictions, in bins of equal size.

    Args:
        scores: of predictions, in 0..1, [N].
        right: whether each was right, [N].
        bins: how many; the predictions are sorted by score and cut into so many parts.
    """
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(abs(scores[part].sum() - right[part].sum()) for part in parts) / max(len(scores), 1))


def ranking_auc(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Probability that a right prediction has a higher score than a wrong one (ties count half); nan without either."""
    positives, negatives = np.sort(scores[right]), np.sort(scores[~right])
    if not len(positives) or not len(negatives):
        return float("nan")
    below = np.searchsorted(negatives, positives, side="left") + np.searchsorted(negatives, positives, side="right")
    return float(below.sum() / (2 * len(positives) * len(negatives)))


def _logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(scores, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.log(clipped / (1 - clipped))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
