"""bf16 on a CPU without instructions for it is emulated: right, but several times slower than fp32."""

from __future__ import annotations

import time

import torch
from torch.nn.functional import linear

_ROWS, _SIZE = 512, 384  # of a product: a layer of a small encoder
_REPEATS = 5
_MUCH_SLOWER = 1.5


def slow_bf16_warning(precision: str, device_type: str) -> str | None:
    """A line for people if bf16 is asked for on a CPU that computes it more slowly than fp32 (takes 20 ms)."""
    if precision != "bf16" or device_type != "cpu":
        return None
    slower = _seconds_of_a_product(torch.bfloat16) / _seconds_of_a_product(torch.float32)
    if slower < _MUCH_SLOWER:
        return None
    return (
        f"warning: this CPU has no instructions for bf16, which takes {slower:.0f} times as long as fp32 here: "
        "--train.precision fp32 is faster (as a new run)"
    )


def _seconds_of_a_product(dtype: torch.dtype) -> float:
    """Seconds of the fastest of several products."""
    rows, weights = torch.ones(_ROWS, _SIZE, dtype=dtype), torch.ones(_SIZE, _SIZE, dtype=dtype)
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        linear(rows, weights)
        seconds.append(time.perf_counter() - began)
    return min(seconds)
