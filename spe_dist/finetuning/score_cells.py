"""Scores as cells of tables, in percent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spe_dist.finetuning.bootstrap import Estimate
from spe_dist.text_table import UNDEFINED


def estimate_cell(estimate: Estimate, sign: str) -> str:
    """Mean, deviation over seeds and interval."""
    deviation = "" if estimate.deviation is None else f" ± {100 * estimate.deviation:.1f}"
    low, high = (f"{100 * end:{sign}.1f}" for end in (estimate.low, estimate.high))
    return f"{100 * estimate.mean:{sign}.1f}{deviation} [{low}, {high}]"


def seeds_cell(values: Sequence[float]) -> str:
    """Mean and deviation over seeds."""
    deviation = f" ± {100 * np.std(values, ddof=1):4.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{deviation}"


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """Mean of those that there are."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def percent(value: float | None) -> str:
    """A share."""
    return UNDEFINED if value is None else f"{100 * value:.1f}"
