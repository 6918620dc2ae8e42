"""The span CNN alone: forward and backward with its matrix product, against the way of the papers' program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from spe_dist.batches.spans import sample_span_pairs
from spe_dist.benchmarks.timing import Timed, peak_bytes, take_turns
from spe_dist.kernels.span_pool import span_pool

KERNEL_SIZES = (2, 3, 4)


@dataclass(frozen=True)
class Size:
    """Of a case: sentences and their words, spans per sentence (5 as SPE draws them, else random), H and channels."""

    sentences: int
    words: int
    spans: int
    hidden: int
    channels: int = 100

    def __str__(self) -> str:
        """For a table."""
        kind = "SPE's" if self.spans == 5 else "random"
        return f"{self.sentences} x {self.words} words, {self.spans} {kind} spans each, H = {self.hidden}"


ON_CPU = (Size(64, 30, 5, 384), Size(64, 30, 5, 768), Size(64, 30, 20, 384), Size(64, 30, 20, 768))
ON_GPU = (*ON_CPU, Size(512, 17, 5, 768), Size(512, 17, 20, 768), Size(512, 17, 5, 1024))


class SpanCnn(nn.Module):
    """Filters and biases; both ways of computing with them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.taps = nn.Linear(size.hidden, sum(KERNEL_SIZES) * size.channels, bias=False)
        self.bias = nn.Parameter(torch.randn(len(KERNEL_SIZES) * size.channels))
        self.channels = size.channels

    def ours(self, words: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """One matrix product over all words, then `span_pool`."""
        lowest, highest = span_pool(self.taps(words), starts, ends, kernel_sizes=KERNEL_SIZES)
        bias = self.bias.float() if lowest.dtype == torch.float32 else self.bias
        pooled = torch.maximum(nn.functional.gelu(lowest + bias), nn.functional.gelu(highest + bias))
        return pooled.to(words.dtype)

    def padded(self, words: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Gather the words of every span, pad, convolve, GELU, mask, maximum."""
        offsets = torch.arange(int((ends - starts).max()), device=words.device)
        places = starts[:, None] + offsets
        inside = (places < ends[:, None])[..., None]
        spans = torch.where(inside, words[places.clamp(max=len(words) - 1)], 0).transpose(1, 2)
        pooled = []
        for size, bias, weight in zip(KERNEL_SIZES, self.bias.split(self.channels), self._filters(), strict=True):
            windows = nn.functional.gelu(nn.functional.conv1d(spans, weight, bias, padding=size - 1))
            last = (ends - starts + size - 1)[:, None]
            exists = (torch.arange(windows.shape[2], device=words.device) < last)[:, None]
            pooled.append(windows.masked_fill(~exists, float("-inf")).amax(dim=2))
        return torch.cat(pooled, dim=1)

    def _filters(self) -> list[Tensor]:
        """The same weights as convolutions, [channels, H, size] each."""
        parts = self.taps.weight.split([size * self.channels for size in KERNEL_SIZES])
        return [part.unflatten(0, (-1, self.channels)).permute(1, 2, 0) for part in parts]


def draw_spans(size: Size, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Starts and ends of all spans, as packed words; none is empty."""
    generator = np.random.default_rng(seed)
    first = np.arange(size.sentences)[:, None] * size.words
    if size.spans == 5:
        words = np.full(size.sentences, size.words)
        bounds = sample_span_pairs(words, generator.random((size.sentences, 3)), geometric_p=0.2, max_words=10)
        starts, ends = bounds[:, :-1] + first, bounds[:, 1:] + first
    else:
        two = np.sort(generator.integers(0, size.words, (size.sentences, size.spans, 2)), axis=2) + first[..., None]
        starts, ends = two[..., 0], two[..., 1] + 1
    filled = (starts < ends).reshape(-1)
    return torch.from_numpy(starts.reshape(-1)[filled]), torch.from_numpy(ends.reshape(-1)[filled])


def measure_span_pool(device: torch.device, *, repeats: int, dtype: torch.dtype, compiled: bool) -> list[Timed]:
    """Every size: the padded way, torch.compile of it if asked for, and ours; with ratio and peak memory in notes."""
    rows = []
    for size in ON_GPU if device.type == "cuda" else ON_CPU:
        torch.manual_seed(0)
        cnn = SpanCnn(size).to(device, dtype)
        words = torch.randn(size.sentences * size.words, size.hidden, device=device, dtype=dtype, requires_grad=True)
        starts, ends = (bound.to(device) for bound in draw_spans(size))
        ways: dict[str, Callable[..., Tensor]] = {"gather, pad, Conv1d, GELU, max": cnn.padded}
        if compiled:
            ways["the same under torch.compile"] = torch.compile(cnn.padded, dynamic=False)
        ways["span_pool"] = cnn.ours
        into = torch.randn(len(starts), len(KERNEL_SIZES) * size.channels, device=device, dtype=dtype)
        calls = {name: _forward_backward(way, cnn, words, starts, ends, into) for name, way in ways.items()}
        timed = take_turns(str(size), calls, repeats=repeats, device=device)
        memory = {name: peak_bytes(call, device) for name, call in calls.items()}
        with torch.no_grad():
            pooled = {name: way(words, starts, ends) for name, way in ways.items()}
        for row in timed:
            row.notes["peak MiB"] = memory[row.variant] / 2**20
            row.notes["largest difference"] = float((pooled[row.variant] - pooled[timed[0].variant]).abs().max())
        rows += timed
        rows.append(_kernel_alone(size, cnn, words, starts, ends, repeats=repeats))
    return rows


def _kernel_alone(size: Size, cnn: SpanCnn, words: Tensor, starts: Tensor, ends: Tensor, *, repeats: int) -> Timed:
    """The forward of span_pool without its matrix product, and the bytes it must at least move in a second."""
    taps = cnn.taps(words).detach()
    call = partial(span_pool, taps, starts, ends, kernel_sizes=KERNEL_SIZES)
    (timed,) = take_turns(
        f"{size}: forward of the kernel alone", {"span_pool": call}, repeats=repeats, device=taps.device
    )
    covered = int((ends - starts).sum()) * taps.shape[1] * taps.element_size()
    written = len(starts) * len(KERNEL_SIZES) * size.channels * 4 * 4  # both extremes and both places
    timed.notes["GB/s"] = (min(covered, taps.numel() * taps.element_size()) + written) / timed.median / 1e9
    return timed


def _forward_backward(
    way: Callable[..., Tensor], cnn: SpanCnn, words: Tensor, starts: Tensor, ends: Tensor, into: Tensor
) -> Callable[[], None]:
    def call() -> None:
        cnn.zero_grad()
        words.grad = None
        way(words, starts, ends).backward(into)

    return call
