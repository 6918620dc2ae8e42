"""What a device reaches at best: copies of its memory, and matrix products of an encoder's shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from spe_dist.benchmarks.timing import Timed, time_copy, time_kernels
from spe_dist.config import EncoderConfig

_PIECES = {"cuda": (10_240, 40_960), "cpu": (256,)}  # of 256 and of 1,024 sentences in two views, roughly
_KEYS = {"cuda": 65_536, "cpu": 1_024}  # of a queue
_SETS = 4  # of operands, so that a product finds nothing in a cache that the one before has left


def measure_ceilings(encoder: EncoderConfig, device: torch.device, *, repeats: int) -> list[Timed]:
    """A copy in GB/s, read and written bytes; then products in TFLOP/s.

    Args:
        encoder: whose sizes the products have.
        device: to measure.
        repeats: of each.
    """
    hidden, inner = encoder.hidden_size, encoder.intermediate_size
    shapes = {
        "query, key or value": (hidden, hidden),
        "query, key and value in one": (hidden, 3 * hidden),
        "feed-forward, first": (hidden, inner),
        "feed-forward, second": (inner, hidden),
    }
    rows = [time_copy(device, repeats=repeats)]
    for pieces in _PIECES[device.type]:
        for name, (width, out) in shapes.items():
            case = f"{pieces:,} pieces, {name}"
            for variant, product in (
                ("forward", (pieces, width, out)),
                ("gradient of the input", (pieces, out, width)),
                ("gradient of the weight", (width, pieces, out)),
            ):
                rows.append(_product(case, variant, product, torch.bfloat16, device, repeats))
    keys = (256, hidden, _KEYS[device.type])
    before = torch.get_float32_matmul_precision()
    for precision, variant in (("highest", "fp32"), ("high", "TF32")):
        torch.set_float32_matmul_precision(precision)
        rows.append(_product("256 queries with the queue", variant, keys, torch.float32, device, repeats))
    torch.set_float32_matmul_precision(before)
    rows.append(_product("256 queries with the queue", "bf16", keys, torch.bfloat16, device, repeats))
    return rows


def _product(
    case: str, variant: str, sizes: tuple[int, int, int], dtype: torch.dtype, device: torch.device, repeats: int
) -> Timed:
    rows, inner, columns = sizes
    operands = [
        (
            torch.randn(rows, inner, device=device, dtype=dtype),
            torch.randn(columns, inner, device=device, dtype=dtype).t(),
        )
        for _ in range(_SETS)
    ]
    calls: list[Callable[[], Tensor]] = [partial(torch.mm, *pair) for pair in operands]
    timed = time_kernels(case, variant, calls, repeats=repeats, device=device)
    timed.notes["TFLOP/s"] = 2 * rows * inner * columns / timed.median / 1e12
    return timed
