"""What the model of a task returns in training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Losses:
    """One entry for each of the task's losses."""

    losses: Tensor  # [L] means; the loss is their sum
    correct: Tensor  # [L] int64, how many of what was classified is right
    counts: Tensor  # [L] int64, of how many, on the host
