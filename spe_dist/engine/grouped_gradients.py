"""What DeepSpeed does with gradients parameter by parameter, in a few grouped calls for all of them, or not twice.

`BF16_Optimizer` (stage 1 in bf16) adds each gradient to the fp32 sum, takes its norm, scales it and sets it to zero: of
two hundred parameters, a thousand launches a step. `DeepSpeedZeroOptimizer` (stage 1 in fp32, stage 2) looks for
infinities in each by ten launches, and then at the norm, which tells the same; and it copies the gradients of a rank
that has no other through a bucket. Here methods are replaced on one object; what they compute stays.
tests/distributed/test_engine_step.py compares with DeepSpeed as it is.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor


def find_overflow_by_norm(optimizer: Any) -> None:
    """Let an object of DeepSpeed's `DeepSpeedZeroOptimizer` refuse a step by its norm alone."""
    optimizer.check_overflow = lambda partition_gradients=True: None


def keep_gradients_in_place(optimizer: Any) -> None:
    """Let an object of `DeepSpeedZeroOptimizer` at stage 1 use the gradients of its only rank where they are.

    Reduced over one rank they are what they were. DeepSpeed copies them four times on the way, each time into memory
    that it has just asked for.
    """
    optimizer.reduce_bucket_size = 1  # no memory for what would be reduced
    optimizer.reduce_gradients = lambda pipeline_parallel=False: optimizer.independent_gradient_partition_epilogue()
    optimizer.get_grad_norm_direct = _norm_of_one_rank


def group_gradients(optimizer: Any) -> None:
    """Let an object of DeepSpeed's `BF16_Optimizer` add up, measure and clip its gradients by grouped calls."""
    optimizer.update_hp_grads = partial(_add_up, optimizer)
    optimizer.get_grads_for_norm = partial(_of_norm, optimizer)
    optimizer.clear_lp_grads = partial(_drop, optimizer)


@torch.no_grad()
def _norm_of_one_rank(gradients: list[Tensor], params: list[Tensor]) -> Tensor:
    """Norm of all gradients: of rows in fp32, of the rows' norms in fp64; DeepSpeed copies all gradients into fp64."""
    norms = [torch.linalg.vector_norm(gradient, dim=-1).flatten() for gradient in gradients]
    return torch.linalg.vector_norm(torch.cat(norms).double()).float()


@torch.no_grad()
def _add_up(optimizer: Any, clear_lp_grads: bool = False) -> None:
    """Add the gradients of a backward pass to the sums in fp32, and give their memory back."""
    first: tuple[list[Tensor], list[Tensor]] = ([], [])
    later: tuple[list[Tensor], list[Tensor]] = ([], [])
    for index, group in enumerate(optimizer.bf16_groups):
        begun = optimizer.fp32_groups_has_gradients[index]
        for place, (param, total) in enumerate(zip(group, optimizer.fp32_groups_gradients[index], strict=True)):
            if param.grad is None:
                continue
            sums, grads = later if begun[place] else first
            sums.append(total.view(param.shape))
            grads.append(param.grad)
            begun[place], param._hp_grad = True, total
    if first[0]:
        torch._foreach_copy_(*first)  # the sums are zero: adding would need the gradients in fp32 first
    if later[0]:
        wide = [torch.empty_like(total) for total in later[0]]
        torch._foreach_copy_(wide, later[1])
        torch._foreach_add_(later[0], wide)
    _drop(optimizer)


def _of_norm(optimizer: Any, for_clipping: bool = False) -> Any:
    """What DeepSpeed takes the norm of: the norms of all sums; or what it scales: the sums as they lie in memory."""
    if for_clipping:
        return optimizer.fp32_groups_actual_gradients_flat
    sums = [total for group in optimizer.fp32_groups_gradients for total in group]
    return [torch.stack(torch._foreach_norm(sums))], {}


def _drop(optimizer: Any, set_to_none: bool = True) -> None:
    """Forget the gradients, so that the next backward pass makes new ones instead of adding to zeros."""
    for group in optimizer.bf16_groups:
        for param in group:
            param.grad = None
