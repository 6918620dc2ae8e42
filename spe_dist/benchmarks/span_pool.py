"""The span CNN alone: forward and backward with its matrix product, against the way of the papers' program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from spe_dist.benchmarks.timing import Timed, peak_bytes, take_turns, time_copy, time_kernels
from spe_dist.kernels.span_pool import span_gelu_pool
from spe_dist.methods.spe.spans import sample_span_pairs

KERNEL_SIZES = (2, 3, 4)
_UNCACHED = 200_000_000  # bytes that no GPU's cache holds


@dataclass(frozen=True)
class Size:
    """Sizes of a case: sentences, words and spans per sentence (5: drawn as SPE does; else random), H and channels."""

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
ON_GPU = (
    *ON_CPU,
    *(Size(512, 17, 5, 768), Size(512, 17, 20, 768), Size(512, 17, 5, 1024)),
    *(Size(2048, 33, 5, 768), Size(4096, 33, 5, 768)),  # taps of 122 and 243 MB in bf16: no cache holds one of them
)


class SpanCnn(nn.Module):
    """Filters and biases; both ways of computing with them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.taps = nn.Linear(size.hidden, sum(KERNEL_SIZES) * size.channels, bias=False)
        self.bias = nn.Parameter(torch.randn(len(KERNEL_SIZES) * size.channels))
        self.channels = size.channels

    def ours(self, words: Tensor, starts: Tensor, ends: Tensor, longest: int) -> Tensor:
        """One matrix product over all words, then `span_gelu_pool`, which needs no longest span."""
        return span_gelu_pool(self.taps(words), self.bias, starts, ends, kernel_sizes=KERNEL_SIZES)

    def padded(self, words: Tensor, starts: Tensor, ends: Tensor, longest: int) -> Tensor:
        """Gather the words of every span, pad to the longest, convolve, GELU, mask, maximum."""
        offsets = torch.arange(longest, device=words.device)
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


def measure_span_pool(device: torch.device, dtype: torch.dtype, *, repeats: int, compiled: bool) -> list[Timed]:
    """Every size: the padded way, torch.compile of it if asked for, and ours; with ratio and peak memory in notes.

    Then the operators alone, forward and backward, with the bytes that they must at least move and the share that this
    is of the speed at which the device copies.
    """
    copied = float(time_copy(device, repeats=repeats).notes["GB/s"])
    rows = []
    for size in ON_GPU if device.type == "cuda" else ON_CPU:
        torch.manual_seed(0)
        cnn = SpanCnn(size).to(device, dtype)
        words = torch.randn(size.sentences * size.words, size.hidden, device=device, dtype=dtype, requires_grad=True)
        starts, ends = draw_spans(size)
        longest = int((ends - starts).max())
        spans = (starts.to(device), ends.to(device))
        ways: dict[str, Callable[..., Tensor]] = {"gather, pad, Conv1d, GELU, max": cnn.padded}
        if compiled:
            torch._dynamo.reset()  # of what it has compiled, a function keeps eight versions and then compiles no more
            ways["the same under torch.compile"] = torch.compile(cnn.padded, dynamic=False)
        ways["span_gelu_pool"] = cnn.ours
        into = torch.randn(len(starts), len(KERNEL_SIZES) * size.channels, device=device, dtype=dtype)
        pooled = {name: way(words, *spans, longest).detach() for name, way in ways.items()}
        calls = {name: _forward_backward(way, cnn, words, spans, longest, into) for name, way in ways.items()}
        timed = take_turns(str(size), calls, repeats=repeats, device=device)
        memory = {name: peak_bytes(call, device) for name, call in calls.items()}
        for row in timed:
            row.notes["peak MiB"] = memory[row.variant] / 2**20
            row.notes["largest difference"] = float((pooled[row.variant] - pooled[timed[0].variant]).abs().max())
        rows += [*timed, *_operators_alone(size, cnn, words, *spans, repeats=repeats, copied=copied)]
    return rows


def _operators_alone(
    size: Size, cnn: SpanCnn, words: Tensor, starts: Tensor, ends: Tensor, *, repeats: int, copied: float
) -> list[Timed]:
    """Forward and backward of both operators without the matrix product."""
    taps, bias, device, sizes = cnn.taps(words).detach(), cnn.bias.detach(), words.device, list(KERNEL_SIZES)
    copies = -(-_UNCACHED // (taps.numel() * taps.element_size())) if device.type == "cuda" else 1
    inputs = [taps.clone() for _ in range(copies)]
    extremes = [torch.ops.spe_dist.span_pool(one, starts, ends, sizes) for one in inputs]
    pooled = [torch.ops.spe_dist.span_gelu_pool(one, bias, starts, ends, sizes, True) for one in inputs]
    again = (starts, ends, sizes, len(taps), taps.dtype)  # of a backward pass, after its gradients and places
    calls: dict[str, Sequence[Callable[[], object]]] = {
        "span_pool forward": [partial(torch.ops.spe_dist.span_pool, one, starts, ends, sizes) for one in inputs],
        "span_pool backward": [partial(torch.ops.spe_dist.span_pool_backward, *one, *again) for one in extremes],
        "span_gelu_pool forward": [
            partial(torch.ops.spe_dist.span_gelu_pool, one, bias, starts, ends, sizes, True) for one in inputs
        ],
        "span_gelu_pool backward": [
            partial(torch.ops.spe_dist.span_gelu_pool_backward, *one, *again) for one in pooled
        ],
    }
    read = min(int((ends - starts).sum()), len(taps)) * taps[:1].nbytes
    rows = []
    for name, same in calls.items():
        kept = extremes[0] if name.startswith("span_pool") else pooled[0]  # or their gradients, which are as large
        moved = sum(part.nbytes for part in kept) + (read if "forward" in name else taps.nbytes)
        rows.append(time_kernels(f"{size}: {name} alone", "operator", same, repeats=repeats, device=device))
        speed = moved / rows[-1].median / 1e9
        rows[-1].notes.update({"GB/s": speed, "of a copy's speed": f"{speed / copied:.0%}"})
    return rows


def _forward_backward(
    way: Callable[..., Tensor],
    cnn: SpanCnn,
    words: Tensor,
    spans: tuple[Tensor, Tensor],
    longest: int,
    into: Tensor,
) -> Callable[[], None]:
    def call() -> None:
        cnn.zero_grad()
        words.grad = None
        way(words, *spans, longest).backward(into)

    return call
