"""Attention of packed sequences alone, in each of the ways that the encoder has, at mean lengths from 8 pieces to 512.

On a GPU: torch's `varlen_attn` against our `short_attention`. The length at which they are equally fast is what
`MEAN_LENGTH` in `spe_dist/kernels/short_attention.py` ought to be. On a CPU: the ways of padding inside the attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from data_shards.errors import UserError
from spe_dist.batches.batch import PackedSequences
from spe_dist.benchmarks.timing import Timed, take_turns, time_kernels
from spe_dist.kernels import short_attention as short
from spe_dist.models.packed_attention import (
    PaddedGroup,
    PaddedLayout,
    VarlenLayout,
    attend_packed,
    packed_attention,
    padded_layout,
)

HEADS = {"BERT-base": (12, 64), "MiniLM": (12, 32)}  # of a layer, and the size of one
MEAN_LENGTHS = (8, 16, 32, 64, 128, 256, 512)
PIECES = {"cuda": 10_240, "cpu": 1_024}  # of a forward; 256 sentences in two views have 10,000, roughly
_LONGEST = 512
_SETS = {"cuda": 4, "cpu": 1}  # of inputs, so that a kernel finds nothing in a cache that the one before has left

Way = Callable[[Tensor], Tensor]  # queries, keys and values [P, 3, heads, size] → [P, heads, size]


def measure_attention(device: torch.device, dtype: torch.dtype, *, repeats: int) -> tuple[list[Timed], list[str]]:
    """Seconds of every way at every mean length, forward alone and forward with backward.

    Returns:
        The rows, with the largest difference of results or gradients to the first way in their notes; and a line for
        each encoder and pass that says up to which mean length a way is faster than the one before it.

    Raises:
        UserError: the GPU does not run `short_attention`.
    """
    if device.type == "cuda" and (problem := short.problem_on(device)):
        raise UserError(f"attention compares torch's varlen_attn with short_attention, but {problem}")
    rows, lines = [], []
    for encoder, (heads, size) in HEADS.items():
        faster: dict[str, dict[int, float]] = {}
        for mean in MEAN_LENGTHS:
            lengths = _draw_lengths(mean, PIECES[device.type])
            ways = (_ways_of_gpu if device.type == "cuda" else _ways_of_cpu)(lengths, device, scale=size**-0.5)
            case = f"{encoder}, {heads} heads of {size}, {mean} pieces in the mean"
            shape = int(lengths.sum()), heads, size
            for passes, measured in _measure(case, ways, shape, device, dtype, repeats=repeats).items():
                rows += measured
                for before, row in pairwise(measured):
                    pair = f"{encoder}, {passes}: {row.variant} is faster than {before.variant}"
                    faster.setdefault(pair, {})[mean] = row.times_faster(before)
        lines += [f"{pair} {_up_to(crossover(ratios))}" for pair, ratios in faster.items()]
    if device.type == "cuda":
        lines.append(f"auto takes short_attention up to {short.MEAN_LENGTH} (MEAN_LENGTH in {short.__name__})")
    return rows, lines


def crossover(faster: Mapping[int, float]) -> float:
    """Mean length up to which a way is the faster one: 0 if it is not at the first, infinity if it always is.

    Args:
        faster: how many times, by mean length in rising order. From one length to the next, it is taken for a power
            of the length.
    """
    lengths = list(faster)
    if faster[lengths[0]] < 1:
        return 0.0
    for shorter, longer in pairwise(lengths):
        if faster[longer] < 1:
            won, lost = math.log(faster[shorter]), -math.log(faster[longer])
            return shorter * (longer / shorter) ** (won / (won + lost))
    return math.inf


def _up_to(length: float) -> str:
    if length in (0.0, math.inf):
        return "at none of these lengths, or at longer ones alone" if length == 0 else "at all of these lengths"
    return f"up to a mean of {length:.0f} pieces"


def _measure(
    case: str,
    ways: dict[str, tuple[Way, bool]],
    shape: tuple[int, int, int],
    device: torch.device,
    dtype: torch.dtype,
    *,
    repeats: int,
) -> dict[str, list[Timed]]:
    """Every way's forward, and forward with backward of those that have gradients."""
    pieces, heads, size = shape
    torch.manual_seed(0)
    draw = partial(torch.randn, device=device, dtype=dtype)
    inputs = [draw(pieces, 3, heads, size) for _ in range(_SETS[device.type])]
    into = draw(shape)
    forward = {name: [partial(_forward, way, qkv) for qkv in inputs] for name, (way, _) in ways.items()}
    both = {name: [partial(_both, way, qkv, into) for qkv in inputs] for name, (way, trains) in ways.items() if trains}
    rows = {}
    for passes, calls in (("forward", forward), ("forward and backward", both)):
        whole = f"{case}: {passes}"
        if device.type == "cuda":
            timed = [time_kernels(whole, way, same, repeats=repeats, device=device) for way, same in calls.items()]
        else:
            timed = take_turns(whole, {way: same[0] for way, same in calls.items()}, repeats=repeats, device=device)
        expected = calls[timed[0].variant][0]()
        for row in timed:
            row.notes["largest difference"] = float((calls[row.variant][0]() - expected).abs().max())
        rows[passes] = timed
    return rows


@torch.no_grad()
def _forward(way: Way, qkv: Tensor) -> Tensor:
    return way(qkv)


def _both(way: Way, qkv: Tensor, into: Tensor) -> Tensor:
    """The gradient [P, 3, heads, size], of a leaf made anew: an old one belongs to a stream that no graph records."""
    leaf = qkv.detach().requires_grad_()
    return torch.autograd.grad(way(leaf), leaf, into)[0]


def _draw_lengths(mean: int, pieces: int) -> Tensor:
    """Lengths of sequences with about `pieces` pieces in all, [S]: uniform in 0.5 … 1.5 times the mean, at most 512."""
    spread = min(mean // 2, max(_LONGEST - mean, 0))
    generator = torch.Generator().manual_seed(mean)
    return torch.randint(mean - spread, mean + spread + 1, (max(pieces // mean, 1),), generator=generator)


def _starts(lengths: Tensor) -> Tensor:
    return nn.functional.pad(lengths.cumsum(0), (1, 0)).int()


def _ways_of_gpu(lengths: Tensor, device: torch.device, *, scale: float) -> dict[str, tuple[Way, bool]]:
    """Each way, and whether it has gradients."""
    starts, longest = _starts(lengths).to(device), int(lengths.max())
    tiles = short.find_tiles(starts, int(lengths.sum()))
    return {
        "varlen_attn": (partial(attend_packed, layout=VarlenLayout(starts, longest), scaling=scale), True),
        "short_attention": (partial(attend_packed, layout=VarlenLayout(starts, longest, tiles), scaling=scale), True),
    }


def _ways_of_cpu(lengths: Tensor, device: torch.device, *, scale: float) -> dict[str, tuple[Way, bool]]:
    """As `_ways_of_gpu`; sequences lie in the order of their lengths, which all of them share."""
    lengths = lengths.sort().values
    starts, longest, pieces = _starts(lengths), int(lengths[-1]), int(lengths.sum())
    packed = PackedSequences(
        piece_ids=lengths.new_zeros(pieces),
        positions=torch.cat([torch.arange(int(length)) for length in lengths]),
        sequence_starts=starts,
        longest=longest,
    )
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    is_piece = (torch.arange(longest) < lengths[:, None])[:, None, None]
    whole = PaddedGroup(len(lengths), longest, rows * longest + packed.positions, is_piece)
    in_order = torch.arange(pieces)
    return {
        "padded to the longest": (_padded(PaddedLayout((whole,), in_order, in_order), scale), True),
        "padded in groups": (_padded(padded_layout(packed), scale), True),
        "one by one": (_padded(padded_layout(packed, one_by_one=True), scale), False),
    }


def _padded(layout: PaddedLayout, scale: float) -> Way:
    module = nn.Module()

    def attend(qkv: Tensor) -> Tensor:
        query, key, value = qkv.permute(1, 2, 0, 3)[:, None]  # [1, heads, P, size] each
        return packed_attention(module, query, key, value, None, layout=layout, scaling=scale)[0][0]

    return attend
