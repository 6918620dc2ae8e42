"""Numbers of rows rounded up, for predicting on CPUs.

For each number of rows oneDNN makes a kernel of its own, which takes it 0.1 to 0.4 ms, as long as computing a product
of a hundred rows in bf16 does. A batch of a few sentences has twenty such numbers that have not come before.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spe_dist.models.transform_block import TransformBlock

_FEWEST = 8


def rounded_up(rows: int) -> int:
    """A multiple of 8, at most an eighth more: eight numbers between a power of two and the next."""
    step = max(_FEWEST, (1 << max(rows - 1, 0).bit_length()) // 16)
    return -(-rows // step) * step


def round_rows(model: nn.Module, dtype: torch.dtype) -> None:
    """Let blocks and, in bf16, linear layers of a model compute rounded numbers of rows when there are no gradients."""
    kinds = (TransformBlock, nn.Linear) if dtype == torch.bfloat16 else TransformBlock  # in fp32 only GELU is oneDNN's
    chosen: list[Any] = [module for module in model.modules() if isinstance(module, kinds)]
    for module in chosen:
        module.forward = partial(_rounded, module)  # a bound method could not be pickled


def _rounded(self: Any, inputs: Tensor) -> Tensor:
    rows = inputs.shape[:-1].numel()
    more = rounded_up(rows) - rows
    if not more or torch.is_grad_enabled():
        return type(self).forward(self, inputs)
    padded = nn.functional.pad(inputs.reshape(rows, -1), (0, 0, 0, more))
    results = type(self).forward(self, padded)
    return results[:rows].view(*inputs.shape[:-1], -1)
