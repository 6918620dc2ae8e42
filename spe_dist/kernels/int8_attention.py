"""What layers of 8-bit integers do between their products, on the CPU: compiled (csrc/int8_attention.h), or by torch.

A number is written as the step that is nearest to it, 0..255: step s stands for (s - zero) * width.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from spe_dist.kernels.compiled import cpu_library

LEVELS = 255
_SIZES = (16, 32, 64)  # of heads, that are compiled


class Grid(NamedTuple):
    """Where steps lie."""

    width: float
    zero: int


def attends(size: int) -> bool:
    """Whether attention of heads of this size is compiled here."""
    return size in _SIZES and cpu_library() is not None


def to_steps(values: Tensor, grid: Grid) -> Tensor:
    """The nearest step of each number, fp32 → uint8."""
    library = cpu_library()
    if library is None:
        places = torch.add(values.new_full((), grid.zero + 0.5), values, alpha=1 / grid.width)
        return places.clamp_(0, LEVELS).to(torch.uint8)  # cuts off, so it rounds
    values = values.contiguous()
    steps = torch.empty(values.shape, dtype=torch.uint8)
    library.int8_steps(_at(values), ctypes.c_int64(values.numel()), *_grid(grid), _at(steps), torch.get_num_threads())
    return steps


def attend_to_steps(qkv: Tensor, starts: Tensor, *, scaling: float, grid: Grid) -> Tensor:
    """Attend within each sequence, as steps.

    Args:
        qkv: query, key and value of each piece, [P, 3, heads, size] fp32.
        starts: of the sequences, and P, [S + 1] int32.
        scaling: of scores.
        grid: of the results.

    Returns:
        [P, heads * size] uint8.
    """
    pieces, _, heads, size = qkv.shape
    library = cpu_library()
    if library is None or size not in _SIZES:
        return to_steps(_attended(qkv, starts, scaling), grid)
    qkv, starts = qkv.contiguous(), starts.to(torch.int32).contiguous()
    steps = torch.empty(pieces, heads * size, dtype=torch.uint8)
    sizes = (ctypes.c_int64(each) for each in (len(starts) - 1, heads, size))
    unknown = library.int8_attend(
        _at(qkv), _at(starts), *sizes, ctypes.c_float(scaling), *_grid(grid), _at(steps), torch.get_num_threads()
    )
    assert not unknown, f"heads of {size} numbers are not compiled, though they are among {_SIZES}"
    return steps


def _attended(qkv: Tensor, starts: Tensor, scaling: float) -> Tensor:
    """Written out, a sequence at a time; [P, heads * size] fp32."""
    of_each = []
    for one in qkv.split(starts.diff().tolist()):
        query, key, value = one.permute(1, 2, 0, 3)
        of_each.append((((query * scaling) @ key.transpose(1, 2)).softmax(2) @ value).transpose(0, 1).flatten(1))
    return torch.cat(of_each)


def _grid(grid: Grid) -> tuple[ctypes.c_float, ctypes.c_int32]:
    return ctypes.c_float(1 / grid.width), ctypes.c_int32(grid.zero)


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
