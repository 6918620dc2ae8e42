"""Memory of a rank by part, but for activations, and the size of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from spe_dist.config import Config
from spe_dist.engine.param_groups import param_groups
from spe_dist.engine.zero_costs import zero_memory


def group_sizes(module: nn.Module) -> list[list[int]]:
    """Elements of every trained parameter, by group of the optimizer."""
    return [[parameter.numel() for parameter in group["params"]] for group in param_groups(module, 0.0)]


def rank_memory(config: Config, model: Any, *, world_size: int) -> dict[str, int]:
    """Bytes by part.

    Args:
        config: the run.
        model: of its method; may be without weights.
        world_size: number of ranks.
    """
    stage, precision = config.train.zero_stage, config.train.precision
    zero = zero_memory(group_sizes(model), stage=stage, precision=precision, world_size=world_size)
    return zero | model.bytes_beside(config)


def checkpoint_bytes(config: Config, model: Any) -> int:
    """Of a checkpoint over all ranks: masters and both moments, and what the method keeps beside."""
    elements: Sequence[int] = [sum(sizes) for sizes in group_sizes(model)]
    return 12 * sum(elements) + sum(model.bytes_beside(config).values())
