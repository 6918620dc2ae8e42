"""Memory of a rank and traffic of a step under DeepSpeed 0.19's ZeRO as this project configures it, by formula. Pure.

tests/distributed/test_footprint.py compares both with what real ranks hold and send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from spe_dist.engine.zero_config import Precision, reduction_bucket

Collective = Literal["all-reduce", "all-gather", "reduce-scatter"]
_LIVE = 1_000_000_000  # elements: stage 3 keeps gathered weights until the backward pass if no more come between


@dataclass(frozen=True)
class Transfer:
    """The collective calls of one step for one purpose, the same on every rank.

    `payload` is the number of bytes of the whole tensors: what is summed, or what the parts of all ranks make together.
    """

    part: str
    collective: Collective
    payload: int

    def sent_bytes(self, world_size: int) -> float:
        """Bytes that one rank sends if the collective is a ring."""
        passes = 2 if self.collective == "all-reduce" else 1
        return passes * self.payload * (world_size - 1) / world_size


def zero_transfers(
    groups: Sequence[Sequence[int]], *, stage: int, precision: Precision, world_size: int, accumulation: int
) -> list[Transfer]:
    """What DeepSpeed sends in a step.

    Args:
        groups: number of elements of every parameter, by parameter group.
        stage: ZeRO stage.
        precision: dtype of the compute weights.
        world_size: number of ranks, W.
        accumulation: forward passes of a rank per step, A.
    """
    weight = weight_bytes(precision)
    flat = padded_elements(groups, stage=stage, world_size=world_size)
    if stage == 3:
        # Every forward pass gathers the weights (its backward pass again if they were let go) and scatters gradients.
        gathers = accumulation * (1 if 2 * flat <= _LIVE else 2)
        transfers = [
            Transfer("weights", "all-gather", gathers * flat * weight),
            Transfer("gradients", "reduce-scatter", 4 * accumulation * flat),
            Transfer("gradient norm", "all-reduce", 8 * len(groups)),
        ]
    elif stage == 1 and precision == "bf16":  # DeepSpeed's BF16_Optimizer holds whole gradients, padding included
        transfers = [Transfer("weights", "all-gather", flat * weight), Transfer("gradients", "all-reduce", 4 * flat)]
    else:
        # Whole fp32 gradients are summed by all-reduce: at stage 2 in every forward pass, at stage 1 once a step.
        times = accumulation if stage == 2 else 1
        transfers = [
            Transfer("weights", "all-gather", flat * weight),
            Transfer("gradients", "all-reduce", 4 * times * sum(map(sum, groups))),
            Transfer("gradient norm", "all-reduce", 4 * len(groups)),
        ]
    return transfers[world_size == 1 :]  # a single rank gathers no weights


def zero_memory(
    groups: Sequence[Sequence[int]], *, stage: int, precision: Precision, world_size: int
) -> dict[str, int]:
    """Bytes that a rank holds, by part; arguments as of `zero_transfers`.

    "reduction buffers" exist during a backward pass at stages 1 and 2 (gradients in bf16; or the bucket, and its fp32
    copy where gradients are bf16; in fp32 at stage 1 until the step's last one) and always at stage 3; "gathered
    weights" exist during a forward and backward pass.
    """
    weight = weight_bytes(precision)
    whole = padded_elements(groups, stage=stage, world_size=world_size)
    share, bucket = whole // world_size, reduction_bucket(sum(map(sum, groups)))
    weights, gradients, gathered = whole, 4 * share, 0
    if stage == 3:
        weights, buffers = share, 8 * bucket
        gathered = weight * whole if world_size > 1 else 0
    elif stage == 1 and precision == "bf16":
        gradients, buffers = 4 * whole, weight * whole
    elif precision == "bf16":
        buffers = (weight + 4) * bucket
    else:
        gradients, buffers = 4 * (whole if stage == 1 else share), 4 * bucket * (stage == 2 or world_size > 1)
    return {
        "weights": weight * weights,
        "fp32 master weights": 4 * share,
        "Adam moments": 8 * share,
        "gradients": gradients,
        "reduction buffers": buffers,
        "gathered weights": gathered,
    }


def padded_elements(groups: Sequence[Sequence[int]], *, stage: int, world_size: int) -> int:
    """Elements of all parameters, padded so that ranks can share them: stage 3 pads each, the others each group."""
    if stage == 3:
        return sum(-(-size // world_size) * world_size for group in groups for size in group)
    return sum(-(-sum(group) // (2 * world_size)) * 2 * world_size for group in groups)


def weight_bytes(precision: Precision) -> int:
    """Bytes of a compute weight or activation."""
    return 2 if precision == "bf16" else 4
