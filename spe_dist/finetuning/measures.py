"""Measures: functions of the sums of what each item contributes, so that items can be resampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Contributions = NDArray[np.int64]  # [..., items, columns]
Measure = Callable[[NDArray[Any]], NDArray[np.float64]]  # sums over items [..., columns] -> values [...], in 0..1
UNIT = 1 << 32
"""Contributions are whole numbers: shares are counted in such parts, exact to 9 digits."""

TIE_BREAK = 1e-7
"""Weight of a measure that decides only where another is equal: one item of a dev set counts more than 1e-7, and the
rounding of scores less than 1e-13."""


def precision_recall_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Scores [..., (precision, recall, F1)] of counts [..., (correct, predicted, gold)]; 0 where 0 is divided by 0."""
    correct, predicted, gold = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    parts = ((correct, predicted), (correct, gold), (2 * correct, predicted + gold))
    return np.stack([above / np.maximum(below, 1) for above, below in parts], axis=-1)


def micro_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """F1 of counts [..., (correct, predicted, gold)]."""
    return precision_recall_f1(counts)[..., 2]


def share(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Share of the first count in the second, [..., (right, all)]: accuracy, for one."""
    counted = np.asarray(counts, dtype=np.float64)
    return counted[..., 0] / np.maximum(counted[..., 1], 1)


def mean_of_shares(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of shares, [..., (sum in UNIT, how many)]."""
    return share(counts) / UNIT
