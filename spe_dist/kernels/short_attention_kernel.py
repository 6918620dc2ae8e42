"""The Triton kernels of `short_attention.py`: one launch each way, no atomics, no memory beside the results.

A program has a tile of 32 pieces of one sequence and one head. Backward, it computes the gradients of these 32 keys
and values over all queries of the sequence, then of the 32 queries over all keys. In a sequence of one tile that is one
and the same product, computed once. Every sum has one order, so results do not depend on timing.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spe_dist.kernels.short_attention import TILE

_WARPS = 4  # of 32 threads: compiled for sm_90, fewer keep values in local memory
_LOG2_E = tl.constexpr(1.4426950408889634)  # the kernels compute in powers of 2


@triton.jit
def _forward(
    qkv, out, lse, starts, tile_ends, tile_sequences, sequences, scale, heads, size: tl.constexpr, tile: tl.constexpr
):
    sequence, head = tl.load(tile_sequences + tl.program_id(0)), tl.program_id(1)
    if sequence >= sequences:  # the grid is as large as it could be: nobody waits to learn how many tiles there are
        return
    start, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    tiles = (end - start + tile - 1) // tile
    first = start + (tl.program_id(0) - (tl.load(tile_ends + sequence) - tiles)) * tile
    hidden, inner = heads * size, head * size + tl.arange(0, size)
    rows = first + tl.arange(0, tile)
    real = rows < end
    query = tl.load(qkv + rows[:, None] * (3 * hidden) + inner[None, :], mask=real[:, None], other=0.0)
    highest = tl.full([tile], float("-inf"), tl.float32)
    total = tl.zeros([tile], tl.float32)
    sums = tl.zeros([tile, size], tl.float32)
    for begin in range(start, end, tile):
        others = begin + tl.arange(0, tile)
        there = others < end
        place = others[:, None] * (3 * hidden) + hidden + inner[None, :]
        key = tl.load(qkv + place, mask=there[:, None], other=0.0)
        value = tl.load(qkv + place + hidden, mask=there[:, None], other=0.0)
        scores = tl.dot(query, tl.trans(key)) * (scale * _LOG2_E)
        scores = tl.where(there[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        rescale = tl.exp2(highest - higher)
        total = total * rescale + tl.sum(weights, 1)
        sums = sums * rescale[:, None] + tl.dot(weights.to(value.dtype), value)
        highest = higher
    result = (sums / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + rows[:, None] * hidden + inner[None, :], result, mask=real[:, None])
    tl.store(lse + rows * heads + head, highest + tl.log2(total), mask=real)


@triton.jit
def _queries(qkv, out, grad, lse, rows, real, inner, hidden, heads, head):
    """A tile's queries, gradients of their results, log2 of their sums, and what all their scores have in common."""
    query = tl.load(qkv + rows[:, None] * (3 * hidden) + inner[None, :], mask=real[:, None], other=0.0)
    place = rows[:, None] * hidden + inner[None, :]
    result = tl.load(out + place, mask=real[:, None], other=0.0)
    into = tl.load(grad + place, mask=real[:, None], other=0.0)
    common = tl.sum(result.to(tl.float32) * into.to(tl.float32), 1)
    return query, into, tl.load(lse + rows * heads + head, mask=real, other=0.0), common


@triton.jit
def _weights(query, key, value, into, sums, common, real, there, scale):
    """Probabilities of a tile of queries by a tile of keys, and the gradients of its scores."""
    scores = tl.dot(query, tl.trans(key)) * (scale * _LOG2_E)
    weights = tl.where(real[:, None] & there[None, :], tl.exp2(scores - sums[:, None]), 0.0)
    grads = weights * (tl.dot(into, tl.trans(value)) - common[:, None]) * scale
    return weights.to(into.dtype), grads.to(query.dtype)


@triton.jit
def _backward(
    qkv,
    out,
    grad,
    lse,
    grad_qkv,
    starts,
    tile_ends,
    tile_sequences,
    sequences,
    scale,
    heads,
    size: tl.constexpr,
    tile: tl.constexpr,
):
    sequence, head = tl.load(tile_sequences + tl.program_id(0)), tl.program_id(1)
    if sequence >= sequences:
        return
    start, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    tiles = (end - start + tile - 1) // tile
    first = start + (tl.program_id(0) - (tl.load(tile_ends + sequence) - tiles)) * tile
    hidden, inner = heads * size, head * size + tl.arange(0, size)
    mine = first + tl.arange(0, tile)
    there = mine < end
    place = mine[:, None] * (3 * hidden) + inner[None, :]  # of the queries; keys and values lie behind
    key = tl.load(qkv + place + hidden, mask=there[:, None], other=0.0)
    value = tl.load(qkv + place + 2 * hidden, mask=there[:, None], other=0.0)
    grad_key = tl.zeros([tile, size], tl.float32)
    grad_value = tl.zeros([tile, size], tl.float32)
    for begin in range(start, end, tile):
        rows = begin + tl.arange(0, tile)
        real = rows < end
        query, into, sums, common = _queries(qkv, out, grad, lse, rows, real, inner, hidden, heads, head)
        weights, grads = _weights(query, key, value, into, sums, common, real, there, scale)
        grad_value += tl.dot(tl.trans(weights), into)
        grad_key += tl.dot(tl.trans(grads), query)
        if tiles == 1:
            tl.store(grad_qkv + place, tl.dot(grads, key).to(grad_qkv.dtype.element_ty), mask=there[:, None])
    tl.store(grad_qkv + place + hidden, grad_key.to(grad_qkv.dtype.element_ty), mask=there[:, None])
    tl.store(grad_qkv + place + 2 * hidden, grad_value.to(grad_qkv.dtype.element_ty), mask=there[:, None])
    if tiles > 1:
        query, into, sums, common = _queries(qkv, out, grad, lse, mine, there, inner, hidden, heads, head)
        grad_query = tl.zeros([tile, size], tl.float32)
        for begin in range(start, end, tile):
            others = begin + tl.arange(0, tile)
            real = others < end
            at = others[:, None] * (3 * hidden) + hidden + inner[None, :]
            key = tl.load(qkv + at, mask=real[:, None], other=0.0)
            value = tl.load(qkv + at + hidden, mask=real[:, None], other=0.0)
            _, grads = _weights(query, key, value, into, sums, common, there, real, scale)
            grad_query += tl.dot(grads, key)
        tl.store(grad_qkv + place, grad_query.to(grad_qkv.dtype.element_ty), mask=there[:, None])


def forward(
    qkv: Tensor, starts: Tensor, tile_ends: Tensor, tile_sequences: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Results [P, heads, size] and the binary logarithms of the softmax's sums [P, heads], fp32.

    Args:
        qkv: queries, keys and values, [P, 3, heads, size], contiguous.
        starts: starts of the sequences, [S + 1] int32.
        tile_ends: tile ends of each sequence, one past its last tile, [S] int32.
        tile_sequences: the sequence of each tile, [T] int32; S for tiles that are not there.
        scale: scale of the scores.
    """
    pieces, _, heads, size = qkv.shape
    out = torch.empty((pieces, heads, size), dtype=qkv.dtype, device=qkv.device)
    lse = torch.empty((pieces, heads), dtype=torch.float32, device=qkv.device)
    _forward[len(tile_sequences), heads](
        qkv, out, lse, starts, tile_ends, tile_sequences, len(tile_ends), scale, heads,
        size=size, tile=TILE, num_warps=_WARPS, num_stages=1,
    )  # fmt: skip
    return out, lse


def backward(
    grad: Tensor,
    qkv: Tensor,
    out: Tensor,
    lse: Tensor,
    starts: Tensor,
    tile_ends: Tensor,
    tile_sequences: Tensor,
    scale: float,
) -> Tensor:
    """The gradient of `qkv`, from that of the results and from what `forward` was given and gave."""
    grad_qkv = torch.empty_like(qkv)
    _backward[len(tile_sequences), qkv.shape[2]](
        qkv, out, grad.contiguous(), lse, grad_qkv, starts, tile_ends, tile_sequences, len(tile_ends), scale,
        qkv.shape[2], size=qkv.shape[3], tile=TILE, num_warps=_WARPS, num_stages=1,
    )  # fmt: skip
    return grad_qkv
