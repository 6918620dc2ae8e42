"""The operator `spe_dist::short_attention`: attention within packed sequences of a few dozen pieces.

torch's `varlen_attn` computes tiles of 128 by 128 pieces, however short a sequence is; a sentence has twenty. This one
computes tiles of 32 by 32 (Triton, `short_attention_kernel.py`), in one launch each way, and sums in a fixed order,
which `varlen_attn`'s backward pass does not. On a CPU the operator is its definition, for tests and counts.
"""

from __future__ import annotations

import logging
import math
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from data_shards.errors import UserError
from spe_dist.config import AttentionKernel

LOGGER = logging.getLogger(__name__)
TILE = 32
HEAD_SIZES = (32, 64)
_LONGEST = 512  # pieces: a program goes through all tiles of its sequence, so a long one is waited for
MEAN_LENGTH = 64  # half of a tile of `varlen_attn`: a guess until `spe bench attention` has run on a GPU
_MOST_ELEMENTS = 2**31  # the kernels count in 32 bits
_chosen: AttentionKernel = "auto"


def choose(kernel: AttentionKernel, device: torch.device) -> None:
    """Say what attention of packed sequences this process uses on a GPU from here on.

    Raises:
        UserError: the short one was asked for and does not run here.
    """
    global _chosen
    if kernel == "short":
        problem = problem_on(device) if device.type == "cuda" else f"this run computes on {device.type}"
        if problem:
            raise UserError(f"kernels.attention is short, but {problem}: choose auto")
    _chosen = kernel


def suits(sequences: int, pieces: int, longest: int, device: torch.device) -> bool:
    """Whether to compute sequences of these lengths in tiles of 32.

    Args:
        sequences: how many.
        pieces: of all of them.
        longest: pieces of the longest.
        device: where they are.
    """
    if _chosen == "varlen" or (device.type == "cuda" and problem_on(device)):
        return False
    return _chosen == "short" or (longest <= _LONGEST and pieces <= MEAN_LENGTH * sequences)


def suits_heads(qkv: Tensor) -> bool:
    """Whether the kernel computes heads of this size; [P, 3, heads, size]."""
    return qkv.shape[3] in HEAD_SIZES and qkv.numel() < _MOST_ELEMENTS


def find_tiles(starts: Tensor, pieces: int) -> tuple[Tensor, Tensor]:
    """Cut sequences into tiles of 32 pieces, on their device, without waiting for it.

    Args:
        starts: starts of the sequences, [S + 1] int32.
        pieces: of all of them, P.

    Returns:
        One past the last tile of each sequence [S], and the sequence of each tile [T], both int32. As many tiles as P
        pieces could need; those that are not there belong to sequence S.
    """
    sequences = len(starts) - 1
    ends = ((starts.diff() + (TILE - 1)) // TILE).cumsum(0, dtype=torch.int32)
    most = torch.arange((pieces + (TILE - 1) * sequences) // TILE, dtype=torch.int32, device=starts.device)
    return ends, torch.searchsorted(ends, most, right=True, out_int32=True)


def short_attention(qkv: Tensor, starts: Tensor, tiles: tuple[Tensor, Tensor], *, scale: float) -> Tensor:
    """Attend within each sequence, [P, heads, size].

    Args:
        qkv: queries, keys and values, [P, 3, heads, size].
        starts: starts of the sequences, [S + 1] int32.
        tiles: tiles of `find_tiles`.
        scale: scale of the scores.
    """
    return _short_attention(qkv.contiguous(), starts, *tiles, scale)[0]


@torch.library.custom_op("spe_dist::short_attention", mutates_args=())
def _short_attention(
    qkv: Tensor, starts: Tensor, tile_ends: Tensor, tile_sequences: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    if not qkv.is_cuda:
        return _definition(qkv, starts, scale)
    from spe_dist.kernels.short_attention_kernel import forward

    with torch.cuda.device(qkv.device):
        return forward(qkv, starts, tile_ends, tile_sequences, scale)


@torch.library.custom_op("spe_dist::short_attention_backward", mutates_args=())
def _short_attention_backward(
    grad: Tensor,
    qkv: Tensor,
    out: Tensor,
    lse: Tensor,
    starts: Tensor,
    tile_ends: Tensor,
    tile_sequences: Tensor,
    scale: float,
) -> Tensor:
    if not qkv.is_cuda:
        return _definition_backward(grad, qkv, starts, scale)
    from spe_dist.kernels.short_attention_kernel import backward

    with torch.cuda.device(qkv.device):
        return backward(grad, qkv, out, lse, starts, tile_ends, tile_sequences, scale)


@_short_attention.register_fake
def _(qkv: Tensor, starts: Tensor, tile_ends: Tensor, tile_sequences: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    pieces, _, heads, size = qkv.shape
    return qkv.new_empty(pieces, heads, size), qkv.new_empty((pieces, heads), dtype=torch.float32)


@_short_attention_backward.register_fake
def _(grad: Tensor, qkv: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(qkv)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None]:
    qkv, starts, tile_ends, tile_sequences, out, lse = ctx.saved_tensors
    grad_qkv = _short_attention_backward(grad, qkv, out, lse, starts, tile_ends, tile_sequences, ctx.scale)
    return grad_qkv, None, None, None, None


torch.library.register_autograd("spe_dist::short_attention", _backward, setup_context=_setup_context)


def _definition(qkv: Tensor, starts: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Sequence by sequence, in fp32 at least; results, and binary logarithms of the softmax's sums [P, heads]."""
    results, sums = [], []
    for query, key, value in _sequences(qkv, starts):
        scores = query @ key.transpose(1, 2) * scale
        results.append((scores.softmax(dim=2) @ value).transpose(0, 1))
        sums.append(scores.logsumexp(dim=2).T / math.log(2))
    return torch.cat(results).to(qkv.dtype), torch.cat(sums).float()


def _definition_backward(grad: Tensor, qkv: Tensor, starts: Tensor, scale: float) -> Tensor:
    grads, into = [], grad.transpose(0, 1).to(torch.promote_types(qkv.dtype, torch.float32))
    for (query, key, value), g in zip(_sequences(qkv, starts), into.tensor_split(starts.long()[1:-1], 1), strict=True):
        weights = (query @ key.transpose(1, 2) * scale).softmax(dim=2)
        of_weights = g @ value.transpose(1, 2)
        of_scores = weights * (of_weights - (weights * of_weights).sum(dim=2, keepdim=True)) * scale
        of_qkv = of_scores @ key, of_scores.transpose(1, 2) @ query, weights.transpose(1, 2) @ g
        grads.append(torch.stack(of_qkv).permute(2, 0, 1, 3))
    return torch.cat(grads).to(qkv.dtype)


def _sequences(qkv: Tensor, starts: Tensor) -> list[Tensor]:
    """Queries, keys and values of each sequence, [3, heads, pieces, size], in fp32 at least."""
    wide = qkv.to(torch.promote_types(qkv.dtype, torch.float32)).permute(1, 2, 0, 3)
    return list(wide.tensor_split(starts.long()[1:-1], dim=2))


@cache
def problem_on(device: torch.device) -> str:
    """Why the kernel does not run on a GPU, or nothing; tried on two sequences and said once."""
    if find_spec("triton") is None:
        return "triton is not installed"
    generator = torch.Generator().manual_seed(0)
    starts = torch.tensor([0, 5, 45], dtype=torch.int32)
    qkv, grad = (torch.randn(45, *shape, 2, 64, generator=generator).bfloat16() for shape in ((3,), ()))
    expected = _definition_backward(grad, qkv, starts, 0.125)
    try:
        there, on_device = qkv.to(device), starts.to(device)
        layout = on_device, *find_tiles(on_device, len(qkv))
        results = _short_attention(there, *layout, 0.125)
        found = _short_attention_backward(grad.to(device), there, *results, *layout, 0.125)  # whatever the grad mode is
        torch.testing.assert_close(found.cpu(), expected, rtol=0.05, atol=0.05)
    except Exception as error:  # of a compiler, a driver, a release of Triton: none of them is to stop a run
        said = str(error).strip() or repr(error)
        problem = f"its Triton kernel does not run here: {said.splitlines()[0]}"
        LOGGER.warning("packed sequences attend by torch's varlen_attn, which is slower for sentences: %s", problem)
        return problem
    return ""
