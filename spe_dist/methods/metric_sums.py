"""Sums of losses and metrics over an interval of steps, and the means that are logged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricSums:
    """Global sums: `losses` and `counts` by term, `sums` by measure."""

    losses: Mapping[str, float]
    counts: Mapping[str, float]
    sums: Mapping[str, float]

    def mean_loss(self, term: str) -> float:
        """Mean loss of a term's items; 0 if there were none."""
        return self.losses[term] / max(self.counts[term], 1.0)

    def share(self, parts: Sequence[str], wholes: Sequence[str]) -> float:
        """Sum of some metrics over the sum of others or of counts; not a number if there were none."""
        whole = sum(self.counts[name] if name in self.counts else self.sums[name] for name in wholes)
        return sum(self.sums[name] for name in parts) / whole if whole else math.nan
