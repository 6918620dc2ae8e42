"""What layers of 8-bit integers do between their products, on the CPU: compiled (csrc/int8_passes.h), or by torch.

A row of numbers is mixed, and then written as steps, 0..255, from its lowest to its highest number, 0 among them: step
s stands for (s - zero) * width, and each row has a width and a zero of its own, so it does not depend on any other one.
Mixing (a Hadamard matrix for each 128 columns, as in QuaRot) spreads the few large numbers of a row over many columns:
steps become smaller. Weights that are mixed in the same way undo it.
"""

from __future__ import annotations

import ctypes
from math import gcd
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spe_dist.kernels.compiled import cpu_library

_LEVELS = 255
_MIXED, _FEWEST_MIXED = 128, 16  # columns
_SIZES = (16, 32, 64)  # of heads, that are compiled
_ROUNDED_TO = 64  # rows: oneDNN makes a kernel for every number of rows


class Steps(NamedTuple):
    """Rows of numbers."""

    steps: Tensor  # [at least P, K] uint8; rows beyond P hold anything
    places: Tensor  # [P, 2] fp32: width, width * zero


class Product(NamedTuple):
    """A product of steps and weights, and what it lacks: it is width * sums - width * zero * columns + bias."""

    sums: Tensor  # [at least P, N] fp32
    places: Tensor  # [P, 2] of the steps
    columns: Tensor  # [N] sums of the weights of each output
    bias: Tensor  # [N]

    def finished(self) -> Tensor:
        """Products in real values, [P, N] fp32."""
        width, shift = self.places.split(1, dim=1)
        return width * self.sums[: len(self.places)] - shift * self.columns + self.bias


def attends(size: int) -> bool:
    """Whether attention of heads of this size is compiled here."""
    return size in _SIZES and cpu_library() is not None


def to_steps(values: Tensor) -> Steps:
    """Rows [P, K] fp32 as the nearest steps."""
    library = cpu_library()
    if library is None:
        return _to_steps(values)
    values = values.float().contiguous()
    found = _room(*values.shape)
    library.int8_steps(_at(values), *_sizes(values.shape), *map(_at, found), torch.get_num_threads())
    return found


def gelu_to_steps(product: Product) -> Steps:
    """The GELU of a product as steps; compiled it is exact to 4e-5, or to 4e-6 of large numbers."""
    library = cpu_library()
    if library is None:
        return _to_steps(nn.functional.gelu(product.finished()))
    shape = len(product.places), product.sums.shape[1]
    found = _room(*shape)
    library.int8_gelu(*map(_at, product), *_sizes(shape), *map(_at, found), torch.get_num_threads())
    return found


def add_and_norm(product: Product, norm: nn.LayerNorm, states: Tensor) -> None:
    """Add a product to states [P, H] and normalise the sums, in place."""
    library = cpu_library()
    if library is None:
        states.copy_(norm(product.finished() + states))
        return
    epsilon = ctypes.c_float(norm.eps)
    library.int8_norm(
        *map(_at, product), *_sizes(states.shape), _at(norm.weight), _at(norm.bias), epsilon, _at(states),
        torch.get_num_threads(),
    )  # fmt: skip


def attend_to_steps(qkv: Product, starts: Tensor, *, heads: int, scaling: float) -> Steps:
    """Attend within each sequence.

    Args:
        qkv: query, key and value of each piece, [P, 3 * heads * size]; its sums are overwritten.
        starts: starts of the sequences, and P, [S + 1] int32.
        heads: that attend.
        scaling: scaling of scores.

    Returns:
        Of what each piece attends to, [P, heads * size].
    """
    hidden = qkv.sums.shape[1] // 3
    library = cpu_library()
    if library is None or hidden // heads not in _SIZES:
        return _to_steps(_attended(qkv.finished().unflatten(1, (3, heads, -1)), starts, scaling))
    found, starts = _room(len(qkv.places), hidden), starts.to(torch.int32).contiguous()
    unknown = library.int8_attend(
        *map(_at, qkv), _at(starts), *_sizes((len(starts) - 1, heads, hidden // heads)), ctypes.c_float(scaling),
        *map(_at, found), torch.get_num_threads(),
    )  # fmt: skip
    assert not unknown, f"heads of {hidden // heads} numbers are not compiled, though they are among {_SIZES}"
    return found


def mixed(rows: Tensor) -> Tensor:
    """Rows [P, K] times a matrix [K, K]: one whose product with its transpose is the identity times `scale_of(K)`."""
    size = scale_of(rows.shape[1])
    matrix = rows.new_ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], dim=1), torch.cat([matrix, -matrix], dim=1)])
    return (rows.unflatten(1, (-1, size)) @ matrix).flatten(1)


def scale_of(columns: int) -> int:
    """Columns that are mixed with each other; 1: none."""
    size = gcd(columns, _MIXED)
    return size if size >= _FEWEST_MIXED else 1


def _to_steps(values: Tensor) -> Steps:
    """The definition."""
    values = mixed(values)
    low, high = values.amin(1, keepdim=True).clamp(max=0), values.amax(1, keepdim=True).clamp(min=0)
    width = ((high - low) / _LEVELS).clamp(min=1e-12)
    zero = (-low / width).round()
    steps = (values / width + zero).round().clamp_(0, _LEVELS).to(torch.uint8)
    return Steps(steps, torch.cat([width, width * zero], dim=1))


def _attended(qkv: Tensor, starts: Tensor, scaling: float) -> Tensor:
    """Written out, a sequence at a time; [P, 3, heads, size] → [P, heads * size]."""
    of_each = []
    for one in qkv.split(starts.diff().tolist()):
        query, key, value = one.permute(1, 2, 0, 3)
        of_each.append((((query * scaling) @ key.transpose(1, 2)).softmax(2) @ value).transpose(0, 1).flatten(1))
    return torch.cat(of_each)


def _room(rows: int, columns: int) -> Steps:
    rounded = -(-rows // _ROUNDED_TO) * _ROUNDED_TO
    steps = torch.empty(rounded, columns, dtype=torch.uint8, device="cpu")
    return Steps(steps, torch.empty(rows, 2, dtype=torch.float32, device="cpu"))  # whatever this process's defaults are


def _sizes(sizes: tuple[int, ...]) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(size) for size in sizes]


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
