"""The operators `spe_dist::span_pool` and `spe_dist::span_gelu_pool`: span-CNN max-pooling over overlapping spans.

One call takes a whole batch. Their bodies (`bodies.py`) are a PyTorch reference, whose definition is
`span_pool_reference.py`, and compiled ones for CPU and CUDA; which of them runs never changes what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spe_dist.kernels.bodies import Spans, room_for_extremes, room_for_gelu, shape_of_taps
from spe_dist.kernels.compiled import body_for


def span_pool(taps: Tensor, starts: Tensor, ends: Tensor, *, kernel_sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of the span convolution in each span, before bias and activation.

    Args:
        taps: all filter taps applied to all words, [words, sum(kernel_sizes) * channels]: for each kernel size, for
            each tap, the channels. bf16 is accumulated in fp32.
        starts: first word of each span, [spans], integer; spans come in any order.
        ends: one past the last word of each span, [spans]; equal to the start for an empty span.
        kernel_sizes: words per filter.

    Returns:
        lowest, highest: [spans, len(kernel_sizes) * channels] in fp32 (fp64 for fp64 taps); 0 for empty spans.
    """
    lowest, highest, _, _ = _span_pool(taps, starts, ends, list(kernel_sizes))
    return lowest, highest


def span_gelu_pool(taps: Tensor, bias: Tensor, starts: Tensor, ends: Tensor, *, kernel_sizes: Sequence[int]) -> Tensor:
    """Largest GELU of the span convolution with its bias in each span: the whole max-pooled span CNN, given its taps.

    Args:
        taps: as in `span_pool`.
        bias: bias of each filter, [len(kernel_sizes) * channels], in the type of the taps or in fp32.
        starts: as in `span_pool`.
        ends: as in `span_pool`.
        kernel_sizes: words per filter.

    Returns:
        [spans, len(kernel_sizes) * channels] in the type of the bias; the GELU of the bias for empty spans.
    """
    for_backward = torch.is_grad_enabled() and (taps.requires_grad or bias.requires_grad)
    pooled, _, _ = _span_gelu_pool(taps, bias, starts, ends, list(kernel_sizes), for_backward)
    return pooled


def _operator(body: Callable[..., Any]) -> Any:
    """An operator of torch with the name of its body.

    Not `torch.library.custom_op`: its first call imports Dynamo, most of a second that a prediction does not need.
    """
    name = f"spe_dist::{body.__name__.removeprefix('_')}"
    torch.library.define(name, torch.library.infer_schema(body, mutates_args=()))
    torch.library.impl(name, ("cpu", "cuda"), body)
    return getattr(torch.ops.spe_dist, name.partition("::")[2]).default


@_operator
def _span_pool(
    taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return body_for(taps.device).forward(taps, Spans(starts, ends, kernel_sizes))


@_operator
def _span_pool_backward(
    grad_lowest: Tensor,
    grad_highest: Tensor,
    lowest_at: Tensor,
    highest_at: Tensor,
    starts: Tensor,
    ends: Tensor,
    kernel_sizes: Sequence[int],
    num_words: int,
    dtype: torch.dtype,
) -> Tensor:
    extremes = [(grad_lowest, lowest_at), (grad_highest, highest_at)]
    spans = Spans(starts, ends, kernel_sizes)
    return body_for(grad_lowest.device).backward(extremes, spans, num_words, dtype)


@_operator
def _span_gelu_pool(
    taps: Tensor, bias: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int], for_backward: bool
) -> tuple[Tensor, Tensor, Tensor]:
    spans = Spans(starts, ends, kernel_sizes)
    return body_for(taps.device).gelu_forward(taps, bias, spans, for_backward=for_backward)


@_operator
def _span_gelu_pool_backward(
    grad: Tensor,
    slope: Tensor,
    at: Tensor,
    starts: Tensor,
    ends: Tensor,
    kernel_sizes: Sequence[int],
    num_words: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    spans = Spans(starts, ends, kernel_sizes)
    return body_for(grad.device).gelu_backward(grad, slope, at, spans, num_words, dtype)


@torch.library.register_fake("spe_dist::span_pool")
def _(taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]) -> tuple[Tensor, ...]:
    return room_for_extremes(taps, Spans(starts, ends, kernel_sizes))


@torch.library.register_fake("spe_dist::span_pool_backward")
def _(grad_lowest: Tensor, *others: Any) -> Tensor:
    *_, kernel_sizes, num_words, dtype = others
    return grad_lowest.new_empty(shape_of_taps(grad_lowest, kernel_sizes, num_words), dtype=dtype)


@torch.library.register_fake("spe_dist::span_gelu_pool")
def _(
    taps: Tensor, bias: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int], for_backward: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return room_for_gelu(taps, bias, Spans(starts, ends, kernel_sizes), for_backward=for_backward)


@torch.library.register_fake("spe_dist::span_gelu_pool_backward")
def _(grad: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *_, kernel_sizes, num_words, dtype = others
    taps = grad.new_empty(shape_of_taps(grad, kernel_sizes, num_words), dtype=dtype)
    return taps, grad.new_empty(grad.shape[1])


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    taps = inputs[0]
    starts, ends, ctx.kernel_sizes = inputs[-4:-1] if len(output) == 3 else inputs[-3:]
    ctx.num_words, ctx.dtype = taps.shape[0], taps.dtype
    kept = output[-2:]  # slope and window, or the windows of both extremes
    ctx.save_for_backward(*kept, starts, ends)
    ctx.mark_non_differentiable(*kept)


def _backward(ctx: Any, grad_lowest: Tensor, grad_highest: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    grad = _span_pool_backward(
        grad_lowest, grad_highest, *ctx.saved_tensors, ctx.kernel_sizes, ctx.num_words, ctx.dtype
    )
    return grad, None, None, None


def _gelu_backward(ctx: Any, grad_pooled: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    grads = _span_gelu_pool_backward(grad_pooled, *ctx.saved_tensors, ctx.kernel_sizes, ctx.num_words, ctx.dtype)
    return *grads, None, None, None, None


torch.library.register_autograd("spe_dist::span_pool", _backward, setup_context=_keep_for_backward)
torch.library.register_autograd("spe_dist::span_gelu_pool", _gelu_backward, setup_context=_keep_for_backward)
