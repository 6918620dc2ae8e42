"""What DeepSpeed is told: a pure function of a few settings, so that a test and a person can read all of it."""

from __future__ import annotations

from typing import Any, Literal

from data_shards.errors import UserError

Precision = Literal["bf16", "fp32"]
LARGEST_BUCKET = 500_000_000  # elements of a reduction: DeepSpeed's default
STAGES: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)


def deepspeed_config(
    *, stage: int, precision: Precision, accumulation: int, world_size: int, clip: float, elements: int
) -> dict[str, Any]:
    """DeepSpeed's configuration.

    Args:
        stage: ZeRO stage: 1 splits the optimizer state over the ranks, 2 the gradients too, 3 the weights too.
        precision: dtype of the compute weights; master weights and moments are fp32 in either case.
        accumulation: forward passes of a rank per optimizer step, A.
        world_size: number of ranks, W.
        clip: largest norm of the whole gradient, 0 for no clipping.
        elements: number of elements of all parameters.

    Raises:
        UserError: a stage or precision that is not offered.
    """
    if stage == 0:
        raise UserError(
            "ZeRO stage 0 (train.zero_stage) is not offered: in bf16 it keeps no master weights that can be saved; "
            "use stage 1, also with one rank"
        )
    if stage not in STAGES:
        raise UserError(f"ZeRO stage {stage} (train.zero_stage) is not offered: use 1, 2 or 3")
    if precision not in ("bf16", "fp32"):
        raise UserError(f"precision {precision!r} (train.precision) is not offered: use bf16 or fp32")
    return {
        # One "sample" of DeepSpeed is one packed forward pass; it never sees how many records are in it.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": accumulation * world_size,
        "bf16": {"enabled": precision == "bf16"},
        # Gradients are added up and reduced in fp32: in bf16 the sum would depend on A and on W.
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "gradient_clipping": clip,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": stage,
            "reduce_bucket_size": reduction_bucket(elements),
            # 0: no parameter is small enough to stay whole, so a debug model is split exactly as a large one is.
            **({"stage3_param_persistence_threshold": 0} if stage == 3 else {}),
        },
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
        # It would wait for the GPU in every forward and every step.
        "timers": {"throughput": {"enabled": False}},
    }


def reduction_bucket(elements: int) -> int:
    """Elements of the buffer that gradients are reduced in: no more than there are, for a GPU has it in memory."""
    return min(elements, LARGEST_BUCKET)
