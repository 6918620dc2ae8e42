"""What ZeRO costs a rank: memory by part, and what a step hands to collectives. Pure.

*Payload* is the size of the whole tensor: what is summed, or what all ranks' pieces make together. A ring sends, per
rank, (W-1)/W of it for an all-gather or a reduce-scatter and twice that for an all-reduce.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from spe_dist.engine.zero_config import Precision

Collective = Literal["all-reduce", "all-gather", "reduce-scatter"]
_BUCKET = 500_000_000  # elements: DeepSpeed's default for reducing, which this project leaves alone
_PREFETCH = 50_000_000  # elements that stage 3 gathers at once
_LIVE = 1_000_000_000  # elements: weights are kept from forward to backward if no more than these come between


@dataclass(frozen=True)
class Transfer:
    """All of a step's calls for one purpose, on every rank."""

    part: str
    collective: Collective
    calls: int
    payload: int  # bytes, of all calls together

    def wire_bytes(self, world_size: int) -> float:
        """Bytes that a rank sends (and receives) in a ring."""
        passes = 2 if self.collective == "all-reduce" else 1
        return passes * self.payload * (world_size - 1) / world_size


def zero_transfers(
    groups: Sequence[Sequence[int]], *, stage: int, precision: Precision, world_size: int, accumulation: int
) -> list[Transfer]:
    """What DeepSpeed sends in a step; tests/distributed/test_costs.py counts it.

    Stages 1 and 2 sum whole gradients by all-reduce (its option `reduce_scatter` means who keeps what, and
    `use_multi_rank_bucket_allreduce` is on): stage 1 once a step, stage 2 in every forward pass. Stage 3 gathers the
    weights and scatters the gradients in every forward pass. Gradients travel in fp32 (`communication_data_type`).

    Args:
        groups: elements of every parameter, by parameter group.
        stage: ZeRO stage.
        precision: dtype of the weights.
        world_size: number of ranks, W.
        accumulation: forward passes of a rank, A.
    """
    weight = weight_bytes(precision)
    if stage == 3:
        whole = padded_elements(groups, stage=3, world_size=world_size)
        passes = accumulation * (1 if 2 * whole <= _LIVE else 2)
        gathers = passes * -(-whole // _PREFETCH)
        gather = Transfer("weights", "all-gather", gathers, passes * whole * weight)
        reductions = accumulation * -(-whole // _BUCKET)
        return [
            *([gather] if world_size > 1 else []),
            Transfer("gradients", "reduce-scatter", reductions, 4 * accumulation * whole),
            Transfer("gradient norm", "all-reduce", len(groups), 8 * len(groups)),
        ]
    flat = padded_elements(groups, stage=stage, world_size=world_size)
    own_optimizer = stage == 1 and precision == "bf16"  # its BF16_Optimizer holds whole gradients, padding included
    summed = flat if own_optimizer else sum(map(sum, groups))
    times = accumulation if stage == 2 else 1
    checks = [Transfer("gradient norm", "all-reduce", len(groups), 4 * len(groups))]
    if precision == "bf16":
        checks.append(Transfer("overflow", "all-reduce", 1, 1))
    gather = Transfer("weights", "all-gather", len(groups), flat * weight)
    return [
        Transfer("gradients", "all-reduce", times * -(-summed // _BUCKET), 4 * times * summed),
        *([gather] if world_size > 1 else []),
        *([] if own_optimizer else checks),
    ]


def zero_memory(
    groups: Sequence[Sequence[int]], *, stage: int, precision: Precision, world_size: int
) -> dict[str, int]:
    """Bytes of a rank by part while gradients add up; tests/distributed/test_costs.py weighs them.

    "reduction buffers" are taken for every backward pass at stages 1 and 2 (the buffer itself, and where gradients are
    bf16 their copy in fp32), for good at stage 3; "gathered weights" during a forward and backward pass.
    """
    weight = weight_bytes(precision)
    whole = padded_elements(groups, stage=stage, world_size=world_size)
    share = whole // world_size
    memory = {"masters": 4 * share, "moments": 8 * share}
    if stage == 3:
        buffers = 4 * (_BUCKET + min(whole, _BUCKET))
        gathered = {"gathered weights": weight * whole} if world_size > 1 else {}
        return {"weights": weight * share, **memory, "gradients": 4 * share, "reduction buffers": buffers, **gathered}
    if stage == 1 and precision == "bf16":
        gradients, buffers = (4 + weight) * whole, 0
    elif precision == "bf16":
        gradients, buffers = 4 * share, weight * _BUCKET + 4 * min(whole, _BUCKET)
    else:
        gradients, buffers = 4 * (whole if stage == 1 else share), 4 * _BUCKET
    return {"weights": weight * whole, **memory, "gradients": gradients, "reduction buffers": buffers}


def padded_elements(groups: Sequence[Sequence[int]], *, stage: int, world_size: int) -> int:
    """Elements of all parameters, padded so that ranks can share them: stage 3 pads each, the others each group."""
    if stage == 3:
        return sum(_padded(elements, world_size) for group in groups for elements in group)
    return sum(_padded(sum(group), 2 * world_size) for group in groups)


def _padded(elements: int, multiple: int) -> int:
    return -(-elements // multiple) * multiple


def weight_bytes(precision: Precision) -> int:
    """Of a compute weight or activation."""
    return 2 if precision == "bf16" else 4
