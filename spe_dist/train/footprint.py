"""Memory of a rank without activations, traffic of a step, and the size of a checkpoint, for one configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from spe_dist.batches.batch import SIZES
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.param_groups import param_groups
from spe_dist.engine.zero_footprint import Transfer, zero_memory, zero_transfers
from spe_dist.methods.registry import spec_of

_DIGESTS = 2  # of records and of masks


def rank_memory(config: Config, model: Any, *, world_size: int) -> dict[str, int]:
    """Bytes by part."""
    train = config.train
    zero = zero_memory(_groups(model), stage=train.zero_stage, precision=train.precision, world_size=world_size)
    spec = spec_of(config)
    return zero | spec.bytes_beside(config, model) | spec.bytes_made_again(config, model)


def step_transfers(config: Config, model: Any, plan: BatchPlan, *, accumulation: int | None = None) -> list[Transfer]:
    """All collective calls of a step: DeepSpeed's, the method's and the training loop's.

    Args:
        config: configuration of the run.
        model: model of its method, without weights.
        plan: plan of the run.
        accumulation: forward passes of a rank, if not the plan's.
    """
    transfers = zero_transfers(
        _groups(model),
        stage=config.train.zero_stage,
        precision=config.train.precision,
        world_size=plan.world_size,
        accumulation=accumulation or plan.accumulation,
    )
    if plan.world_size > 1:
        counts = 8 * (len(spec_of(config).counted) + len(SIZES) + _DIGESTS)
        transfers += [Transfer("counts", "all-reduce", counts), Transfer("stop flag", "all-reduce", 4)]
        if plan.pieces_per_forward is not None:
            transfers.append(Transfer("number of forwards", "all-reduce", 8))
        transfers += spec_of(config).transfers(config, model, plan)
    return transfers


def checkpoint_bytes(config: Config, model: Any) -> int:
    """Checkpoint size in bytes over all ranks: fp32 weights, both Adam moments and the method's extra state."""
    return 12 * sum(map(sum, _groups(model))) + sum(spec_of(config).bytes_beside(config, model).values())


def _groups(module: nn.Module) -> list[list[int]]:
    """Number of elements of every trained parameter, by parameter group of the optimizer."""
    return [[parameter.numel() for parameter in group["params"]] for group in param_groups(module, 0.0)]
