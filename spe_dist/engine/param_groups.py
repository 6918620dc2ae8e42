"""Which parameters decay: matrices do, biases and norms do not."""

from __future__ import annotations

from typing import Any

from torch import nn


def param_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The optimizer's parameter groups; a parameter under several names appears once, under its first.

    Returns:
        At most two groups, each with `params`, their `names` in the same order, and `weight_decay`.
    """
    decayed: list[tuple[str, nn.Parameter]] = []
    plain: list[tuple[str, nn.Parameter]] = []
    for name, param in module.named_parameters(remove_duplicate=True):
        (plain if param.ndim <= 1 else decayed).append((name, param))
    groups = ((decayed, weight_decay), (plain, 0.0))
    return [
        {"params": [param for _, param in members], "names": [name for name, _ in members], "weight_decay": decay}
        for members, decay in groups
        if members
    ]
