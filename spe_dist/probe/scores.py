"""From similarities to accuracies, ranks and their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spe_dist.probe.questions import Questions

_RESAMPLES = 2_000
Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """Score on some of the questions; its intervals hold 95 % of bootstrap resamples of these questions."""

    stratum: str
    questions: int
    accuracy: float
    accuracy_interval: Interval
    mean_percentile: float
    """Share of the wrong candidates that are farther than the right one; 0.5 by chance."""
    percentile_interval: Interval


def score(similarity: Tensor, questions: Questions, *, seed: int) -> list[Score]:
    """Accuracy and mean percentile of all questions and of each stratum that has some.

    A tie counts as the share of it that guessing would win, so equal similarities give 1 / N and 0.5.

    Args:
        similarity: similarity of each candidate to its question, [Q, N]; the first candidate is right.
        questions: what was asked.
        seed: seed of the resampling.
    """
    right, wrong = similarity[:, :1].numpy(), similarity[:, 1:].numpy()
    nearer, equal = (wrong > right).sum(axis=1), (wrong == right).sum(axis=1)
    found = (nearer == 0) / (1 + equal)
    percentile = 1 - (nearer + equal / 2) / wrong.shape[1]
    everything = np.ones(len(questions), dtype=bool)
    strata = {
        "all": everything,
        "no content word shared": ~questions.shares_word,
        "a content word shared": questions.shares_word,
        "pair touches no end": ~questions.touches_end,
        "pair touches an end": questions.touches_end,
        "no end, no word shared": ~questions.touches_end & ~questions.shares_word,
    }
    generator = np.random.default_rng(seed)
    return [_score(name, found[rows], percentile[rows], generator) for name, rows in strata.items() if rows.any()]


def _score(
    name: str, found: NDArray[np.float64], percentile: NDArray[np.float64], generator: np.random.Generator
) -> Score:
    resamples = generator.integers(0, len(found), (_RESAMPLES, len(found)))
    intervals = (np.quantile(values[resamples].mean(axis=1), (0.025, 0.975)) for values in (found, percentile))
    accuracy_interval, percentile_interval = ((float(low), float(high)) for low, high in intervals)
    return Score(
        stratum=name,
        questions=len(found),
        accuracy=float(found.mean()),
        accuracy_interval=accuracy_interval,
        mean_percentile=float(percentile.mean()),
        percentile_interval=percentile_interval,
    )
