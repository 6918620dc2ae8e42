"""The operator `spe_dist::span_pool`: span-CNN max-pooling over overlapping spans, one call for a whole batch.

Its bodies are a PyTorch reference (`span_pool_reference.py`, the definition) and compiled ones for CPU and CUDA
(`compiled.py`); which of them runs never changes what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spe_dist.kernels.compiled import body_for
from spe_dist.kernels.span_pool_reference import span_pool_backward_reference, span_pool_reference, value_dtype


@torch.library.custom_op("spe_dist::span_pool", mutates_args=())
def _span_pool(
    taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    body = body_for(taps.device)
    if body is not None:
        return body.forward(taps, starts, ends, kernel_sizes)
    return _reference_by_width(taps, starts, ends, kernel_sizes)


def _reference_by_width(
    taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The reference on spans of up to 4, 16, 64, … words at a time, as it pads to the widest span of a call."""
    channels = taps.shape[1] // sum(kernel_sizes) * len(kernel_sizes)
    dtype = value_dtype(taps.dtype)
    values = taps.new_zeros((2, len(starts), channels), dtype=dtype)
    places = taps.new_zeros((2, len(starts), channels), dtype=torch.int32)
    widths, narrower = ends - starts, -1
    for widest in (4, 16, 64, int(widths.max()) if len(widths) else 0):
        rows = ((widths > narrower) & (widths <= widest)).nonzero().squeeze(1)
        if len(rows):
            lowest, highest, lowest_at, highest_at = span_pool_reference(taps, starts[rows], ends[rows], kernel_sizes)
            values[0, rows], values[1, rows], places[0, rows], places[1, rows] = lowest, highest, lowest_at, highest_at
        narrower = max(narrower, widest)
    return values[0].clone(), values[1].clone(), places[0].clone(), places[1].clone()


@torch.library.custom_op("spe_dist::span_pool_backward", mutates_args=())
def _span_pool_backward(
    grad_lowest: Tensor,
    grad_highest: Tensor,
    lowest_at: Tensor,
    highest_at: Tensor,
    starts: Tensor,
    ends: Tensor,
    kernel_sizes: Sequence[int],
    num_words: int,
) -> Tensor:
    body = body_for(grad_lowest.device)
    backward = body.backward if body is not None else span_pool_backward_reference
    return backward(grad_lowest, grad_highest, lowest_at, highest_at, starts, ends, kernel_sizes, num_words)


def span_pool(taps: Tensor, starts: Tensor, ends: Tensor, *, kernel_sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of the span convolution in each span, before bias and activation.

    Args:
        taps: all filter taps applied to all words, [words, sum(kernel_sizes) * channels]: for each kernel size, for
            each tap, the channels. bf16 is accumulated in fp32.
        starts: first word of each span, [spans], integer.
        ends: one past the last word of each span, [spans]; equal to the start for an empty span.
        kernel_sizes: words per filter.

    Returns:
        lowest, highest: [spans, len(kernel_sizes) * channels] in fp32 (fp64 for fp64 taps); 0 for empty spans.
    """
    lowest, highest, _, _ = _span_pool(taps, starts, ends, list(kernel_sizes))
    return lowest, highest


@_span_pool.register_fake
def _(taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]) -> tuple[Tensor, ...]:
    channels = taps.shape[1] // sum(kernel_sizes)
    shape = (starts.shape[0], channels * len(kernel_sizes))
    dtype = value_dtype(taps.dtype)
    values, places = taps.new_empty(shape, dtype=dtype), taps.new_empty(shape, dtype=torch.int32)
    return values, torch.empty_like(values), places, torch.empty_like(places)


@_span_pool_backward.register_fake
def _(
    grad_lowest: Tensor,
    grad_highest: Tensor,
    lowest_at: Tensor,
    highest_at: Tensor,
    starts: Tensor,
    ends: Tensor,
    kernel_sizes: Sequence[int],
    num_words: int,
) -> Tensor:
    channels = grad_lowest.shape[1] // len(kernel_sizes)
    return grad_lowest.new_empty(num_words, channels * sum(kernel_sizes))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    taps, starts, ends, ctx.kernel_sizes = inputs
    ctx.num_words, ctx.dtype = taps.shape[0], taps.dtype
    ctx.save_for_backward(output[2], output[3], starts, ends)
    ctx.mark_non_differentiable(output[2], output[3])


def _backward(ctx: Any, grad_lowest: Tensor, grad_highest: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None]:
    lowest_at, highest_at, starts, ends = ctx.saved_tensors
    grad = _span_pool_backward(
        grad_lowest, grad_highest, lowest_at, highest_at, starts, ends, ctx.kernel_sizes, ctx.num_words
    )
    return grad.to(ctx.dtype), None, None, None


torch.library.register_autograd("spe_dist::span_pool", _backward, setup_context=_setup_context)
