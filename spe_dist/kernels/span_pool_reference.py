"""The definition of `span_pool` and `span_gelu_pool`: readable PyTorch, every window of every span written out.

A span CNN slides filters of k words over each span. conv(x)[i] = Σ_j W_j x[i + j], so all taps W_j x[w] are computed
once for all words (spans overlap; nothing is computed twice) and `span_pool` only adds shifted taps inside each span.
Windows are those that overlap the span by at least one word; words outside the span count as zero.

GELU is not monotone, so pooling before it would be wrong. But it falls once and then rises, so the largest GELU(x) over
a set is max(GELU(smallest x), GELU(largest x)): it is enough, and exact, to know both extremes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import gelu


def span_pool_reference(
    taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Smallest and largest window of each span and channel, and where. Shapes as in `span_pool.span_pool`."""
    channels = taps.shape[1] // sum(kernel_sizes)
    parts, column = [], 0
    for size in kernel_sizes:
        windows, exists = _windows(taps[:, column : column + size * channels], starts, ends, size)
        lowest, lowest_at = windows.masked_fill(~exists, float("inf")).min(dim=1)
        highest, highest_at = windows.masked_fill(~exists, float("-inf")).max(dim=1)
        empty = (starts == ends)[:, None]
        parts.append((lowest.masked_fill(empty, 0), highest.masked_fill(empty, 0), lowest_at, highest_at))
        column += size * channels
    lowest, highest, lowest_at, highest_at = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return lowest, highest, lowest_at.int(), highest_at.int()


def gelu_of_extremes(
    lowest: Tensor, highest: Tensor, lowest_at: Tensor, highest_at: Tensor, bias: Tensor, *, for_backward: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The larger GELU of both extremes plus a bias.

    Returns:
        pooled: in the type of the bias, [spans, columns]; NaN where one of the two is.
        slope: of GELU there, in the type of the extremes; without rows if no backward pass follows.
        at: the window that it belongs to; likewise.
    """
    low, high = (extreme + bias.to(lowest.dtype) for extreme in (lowest, highest))
    low_gelu, high_gelu = gelu(low), gelu(high)
    pooled = torch.maximum(low_gelu, high_gelu).to(bias.dtype)
    if not for_backward:
        return pooled, lowest.new_empty((0, len(bias))), lowest_at.new_empty((0, len(bias)))
    not_lower = low_gelu <= high_gelu
    chosen = torch.where(not_lower, high, low)
    slope = torch.ops.aten.gelu_backward(torch.ones_like(chosen), chosen)
    return pooled, slope, torch.where(not_lower, highest_at, lowest_at)


def value_dtype(taps: torch.dtype) -> torch.dtype:
    """What windows are summed in: fp32 for bf16 taps, else their own type."""
    return torch.float32 if taps == torch.bfloat16 else taps


def place_dtype(taps: Tensor, kernel_sizes: Sequence[int]) -> torch.dtype:
    """What the numbers of windows are kept in: on a GPU int16 if the words of a call can have no more windows.

    A span's length is known only to the GPU, and asking it would make the step wait; the number of words is its bound.
    """
    fits = taps.shape[0] + max(kernel_sizes) - 2 <= torch.iinfo(torch.int16).max
    return torch.int16 if taps.device.type == "cuda" and fits else torch.int32


def span_pool_backward_reference(
    extremes: Sequence[tuple[Tensor, Tensor]], starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int], num_words: int
) -> Tensor:
    """Gradient of the taps: each extreme passes its gradient to the taps of the window it was found in.

    Args:
        extremes: gradient and windows of each, [spans, len(kernel_sizes) * channels].
        starts: starts of the spans.
        ends: ends of the spans.
        kernel_sizes: words per filter.
        num_words: rows of the taps.
    """
    template = extremes[0][0]
    channels = template.shape[1] // len(kernel_sizes)
    grad = template.new_zeros(num_words, channels * sum(kernel_sizes))
    columns = torch.arange(channels, device=grad.device)
    tap_column = 0
    for index, size in enumerate(kernel_sizes):
        part = slice(index * channels, (index + 1) * channels)
        for tap in range(size):
            tap_columns = (tap_column + tap * channels + columns).expand(len(starts), channels)
            for extreme_grad, extreme_at in extremes:
                words = starts[:, None] - (size - 1) + extreme_at[:, part] + tap
                inside = (words >= starts[:, None]) & (words < ends[:, None])
                grad.index_put_(
                    (words[inside], tap_columns[inside]), extreme_grad[:, part][inside].to(grad.dtype), accumulate=True
                )
        tap_column += size * channels
    return grad


def _windows(taps: Tensor, starts: Tensor, ends: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """All windows of one kernel size, [spans, windows, channels], and which exist, [spans, windows, 1].

    Window i of a span begins at word start - (size - 1) + i; a span of n words has n + size - 1 of them.
    """
    longest = max(int((ends - starts).max()), 1) if len(starts) else 1  # one to mask out, if all are empty
    first_words = starts[:, None] - (size - 1) + torch.arange(longest + size - 1, device=starts.device)
    taps = taps.to(value_dtype(taps.dtype))
    total = taps.new_zeros(*first_words.shape, taps.shape[1] // size)
    for tap, column in enumerate(taps.split(taps.shape[1] // size, dim=1)):
        words = first_words + tap
        inside = (words >= starts[:, None]) & (words < ends[:, None])
        total += torch.where(inside[..., None], column[words.clamp(0, max(len(taps) - 1, 0))], 0)
    return total, (first_words < ends[:, None])[..., None]
