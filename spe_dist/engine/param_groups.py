"""Which parameters decay, and how fast each one learns: matrices decay, biases and norms do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

RateOf = Callable[[str], float]
"""The learning rate of a parameter, by its name, as a share of the step's."""


def same_rate(name: str) -> float:
    """Every parameter learns at the step's rate."""
    return 1.0


def param_groups(module: nn.Module, weight_decay: float, rate_of: RateOf = same_rate) -> list[dict[str, Any]]:
    """The optimizer's parameter groups; a parameter under several names appears once, under its first.

    Returns:
        For every rate at most two groups, each with `params`, their `names` in the same order, `weight_decay`, and
        `rate`; those that decay come first.
    """
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for decays in (True, False):
        for name, param in module.named_parameters(remove_duplicate=True):
            if (param.ndim > 1) == decays:
                decay, rate = weight_decay if decays else 0.0, rate_of(name)
                new = {"params": [], "names": [], "weight_decay": decay, "rate": rate}
                group = groups.setdefault((decays, rate), new)
                group["params"].append(param)
                group["names"].append(name)
    return list(groups.values())
