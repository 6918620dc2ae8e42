"""Attention over packed sequences; `sentence_encoder.py` registers it with transformers under the name "packed".

On GPUs: kernels that read the packed tensor as it is, `short_attention` for sentences and torch's `varlen_attn` for
longer sequences. On CPU: padding inside the attention only, to the longest of a few sequences of similar length, and
none of long sequences and where many are equally long; linear layers run without padding. Extractors pad nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from spe_dist.batches.batch import PackedSequences, Tensors
from spe_dist.kernels import short_attention as short

NAME = "packed"
_FEWEST_SEQUENCES = 4  # of a group
_LONG = 128  # pieces: longer ones by themselves, as the scores of several leave the cache (3 times as slow at 400)
_MANY_OF_A_LENGTH = 16  # in the mean: then each length is a group, as in batches that are sorted for predicting


@dataclass(frozen=True)
class VarlenLayout:
    """Where the sequences of a packed tensor are, for kernels of variable length."""

    sequence_starts: Tensor  # [S + 1] int32
    longest: int
    tiles: tuple[Tensor, Tensor] | None = None  # of `short_attention`, for sentences


@dataclass(frozen=True)
class PaddedGroup:
    """Sequences that lie side by side in a packed tensor and are padded to one length inside the attention."""

    sequences: int
    longest: int
    slots: Tensor | None = None  # [P] where each piece goes in the [S * longest] places; None: they fill all of them
    is_piece: Tensor | None = None  # [S, 1, 1, longest] bool, which places hold a piece; None: all do
    lengths: tuple[int, ...] = ()  # of the sequences, if they attend one by one where there are no gradients

    @property
    def pieces(self) -> int:
        """Places of the packed tensor that belong to this group, P."""
        return self.sequences * self.longest if self.slots is None else len(self.slots)


@dataclass(frozen=True)
class PaddedLayout:
    """Sequences in order of length, in groups of similar length: a group is padded to its own longest sequence."""

    groups: tuple[PaddedGroup, ...]
    order: Tensor  # [P] the pieces in order of their sequences' lengths, as packed indices
    places: Tensor  # [P] the inverse: where each packed piece stands in that order


def padded_layout(packed: PackedSequences, *, one_by_one: bool = False) -> PaddedLayout:
    """Sort the sequences by length and cut them into groups: the shorter half, the shorter half of the rest, and so on.

    Where there are many sequences of each length, those of one length are a group, without padding; a long sequence is
    one by itself. With 64 sentences of Wikipedia, attention computes a third more than it needs to.

    Args:
        packed: at least one sequence; on the CPU.
        one_by_one: whether short sequences attend by themselves where there are no gradients.
    """
    lengths = packed.sequence_starts.diff().long()
    by_length = lengths.argsort(stable=True)
    lengths = lengths[by_length]
    pieces = torch.arange(len(packed.piece_ids))
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths, output_size=len(pieces))
    positions = pieces - (lengths.cumsum(0) - lengths)[rows]
    order = packed.sequence_starts[by_length].long()[rows] + positions
    made, first_row, first_piece = [], 0, 0
    of_each_length = lengths.unique_consecutive(return_counts=True)[1].tolist()
    unpadded = len(lengths) >= _MANY_OF_A_LENGTH * len(of_each_length)
    long = int((lengths > _LONG).sum())
    sizes = [*(_group_sizes(len(lengths) - long) if long < len(lengths) else []), *[1] * long]
    for of_group in lengths.split(of_each_length if unpadded else sizes):
        last_piece, longest = first_piece + int(of_group.sum()), int(of_group[-1])
        if unpadded or len(of_group) == 1:
            alone = (longest,) if one_by_one and len(of_group) == 1 and longest <= _LONG else ()
            made.append(PaddedGroup(len(of_group), longest, lengths=alone))
        else:
            here = slice(first_piece, last_piece)
            slots = (rows[here] - first_row) * longest + positions[here]
            is_piece = (torch.arange(longest) < of_group[:, None])[:, None, None]
            each = tuple(of_group.tolist()) if one_by_one else ()
            made.append(PaddedGroup(len(of_group), longest, slots, is_piece, each))
        first_row, first_piece = first_row + len(of_group), last_piece
    return PaddedLayout(tuple(made), order, torch.empty_like(order).scatter_(0, order, pieces))


def layout_of(packed: PackedSequences, *, one_by_one: bool = False) -> VarlenLayout | PaddedLayout:
    """What the attention of the tensors' device needs to know; made once per forward and shared by all layers."""
    return (
        padded_layout(packed, one_by_one=one_by_one) if packed.piece_ids.device.type == "cpu" else varlen_layout(packed)
    )


def varlen_layout(packed: PackedSequences) -> VarlenLayout:
    """Where the sequences are, and their tiles if they are so short that these are the faster ones."""
    starts, pieces = packed.sequence_starts, len(packed.piece_ids)
    if not short.suits(len(starts) - 1, pieces, packed.longest, starts.device):
        return VarlenLayout(starts, packed.longest)
    return VarlenLayout(starts, packed.longest, short.find_tiles(starts, pieces))


def in_parts(
    packed: PackedSequences, added: Tensor | None, most: int
) -> Iterator[tuple[PackedSequences, Tensor | None]]:
    """Whole sequences of up to so many pieces, or one that is longer, and what is added to theirs."""
    starts = packed.sequence_starts.tolist()
    first = 0
    while first + 1 < len(starts):
        last = max(bisect_right(starts, starts[first] + most) - 1, first + 1)
        pieces = slice(starts[first], starts[last])
        part = replace(
            packed,
            piece_ids=packed.piece_ids[pieces],
            positions=packed.positions[pieces],
            sequence_starts=packed.sequence_starts[first : last + 1] - starts[first],
            segments=None if packed.segments is None else packed.segments[pieces],
        )
        yield part, None if added is None else added[pieces]
        first = last


def _group_sizes(sequences: int) -> list[int]:
    sizes = []
    while sequences >= 2 * _FEWEST_SEQUENCES:
        sizes.append(sequences // 2)
        sequences -= sizes[-1]
    return [*sizes, sequences]


@dataclass(frozen=True)
class AttentionRows(Tensors):
    """Pieces whose attention is asked for, O of them, in order."""

    pieces: Tensor  # [O] packed indices
    counts: tuple[int, ...]  # of them in each sequence
    lengths: tuple[int, ...]  # pieces of each sequence


@dataclass
class LastAttention:
    """What the layer that ran last attended with, kept to compute rows of its probabilities, which nothing returns."""

    query: Tensor | None = None  # [P, heads, size] in the order of the layout
    key: Tensor | None = None
    layout: VarlenLayout | PaddedLayout | None = None
    scaling: float = 1.0
    window: int | None = None  # pieces that a piece looks to either side; None: all

    def of_rows(self, rows: AttentionRows) -> list[Tensor]:
        """Probabilities of the rows of each sequence, [heads, rows, pieces of the sequence], fp32, before dropout."""
        assert self.query is not None and self.key is not None
        query, key, wanted = self.query, self.key, rows.pieces
        if isinstance(self.layout, PaddedLayout):
            wanted, key = self.layout.places[wanted], key[self.layout.places]
        queries = (query[wanted].float() * self.scaling).split(rows.counts)
        keys = key.float().split(rows.lengths)
        scores = [q.transpose(0, 1) @ k.permute(1, 2, 0) for q, k in zip(queries, keys, strict=True)]
        if self.window is not None:
            starts = accumulate(rows.lengths, initial=0)
            places = [pieces - start for pieces, start in zip(rows.pieces.split(rows.counts), starts, strict=False)]
            scores = [_look_nearby(*of_one, self.window) for of_one in zip(scores, places, strict=True)]
        return [of_one.softmax(dim=2) for of_one in scores]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: VarlenLayout | PaddedLayout,
    scaling: float,
    dropout: float = 0.0,
    last: LastAttention | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence; query, key, value are [1, heads, P, size], the result is [1, P, heads, size].

    Query and key are left in `last`, where each layer replaces those of the one before. A layer with a window attends
    to pieces less than `sliding_window` away. Rows after the last piece are there to round up their number.
    """
    window = None if sliding_window is None else sliding_window - 1
    query, key, value = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))  # [P, heads, size]
    if isinstance(layout, VarlenLayout):
        qkv = torch.stack([query, key, value], dim=1)
        return attend_packed(qkv, layout, scaling=scaling, window=window, last=last)[None], None
    if last is not None:
        last.query, last.key, last.layout, last.scaling, last.window = query, key, layout, scaling, window
    sizes = [group.pieces for group in layout.groups]
    rest = value[sum(sizes) :]
    queries, keys, values = (x[: len(x) - len(rest)].split(sizes) for x in (query, key, value))
    attended = [
        _attend(*parts, scaling=scaling, dropout=dropout, window=window)
        for parts in zip(layout.groups, queries, keys, values, strict=True)
    ]
    return torch.cat([*attended, rest] if len(rest) else attended).unsqueeze(0), None


def attend_packed(
    qkv: Tensor, layout: VarlenLayout, *, scaling: float, window: int | None = None, last: LastAttention | None = None
) -> Tensor:
    """Attend within each sequence by a kernel of variable length; [P, 3, heads, size] → [P, heads, size].

    With a window, only to pieces so far to either side.
    """
    query, key, value = qkv.unbind(1)
    if last is not None:
        last.query, last.key, last.layout, last.scaling, last.window = query, key, layout, scaling, window
    starts, longest = layout.sequence_starts, layout.longest
    whole = window is None or window + 1 >= longest
    if whole and layout.tiles is not None and short.suits_heads(qkv):
        return short.short_attention(qkv, starts, layout.tiles, scale=scaling)
    # On use: it brings all of Dynamo, a second that predicting on a CPU does not need.
    from torch.nn.attention.varlen import varlen_attn

    sides = (-1, -1) if whole or window is None else (window, window)
    states = varlen_attn(query, key, value, starts, starts, longest, longest, scale=scaling, window_size=sides)
    assert isinstance(states, Tensor)
    return states


def _attend(
    group: PaddedGroup,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scaling: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """Attention within the sequences of a group, [P, heads, size]."""
    whole = window is None or window + 1 >= group.longest
    if group.lengths and whole and not (dropout or torch.is_grad_enabled() or torch.compiler.is_compiling()):
        return _attend_one_by_one(group.lengths, query, key, value, scaling=scaling)
    query, key, value = (pad(x, group).transpose(1, 2) for x in (query, key, value))
    # Written out: at these sizes scaled_dot_product_attention is slower on CPU, and its backward five times as slow.
    scores = (query * scaling) @ key.transpose(2, 3)
    if window is not None and window + 1 < group.longest:
        scores = _look_nearby(scores, torch.arange(group.longest, device=scores.device), window)
    if group.is_piece is not None:
        scores = scores.masked_fill(~group.is_piece, float("-inf"))
    if group.longest > _LONG:  # in bf16 it sums in fp32 too and keeps a third as much; for short ones it is slower
        weights = scores.softmax(dim=3)
    else:
        weights = scores.softmax(dim=3, dtype=torch.float32).to(value.dtype)
    attended = (nn.functional.dropout(weights, dropout) @ value).transpose(1, 2).flatten(0, 1)
    return attended if group.slots is None else attended[group.slots]


def _attend_one_by_one(lengths: Sequence[int], query: Tensor, key: Tensor, value: Tensor, *, scaling: float) -> Tensor:
    """Attention within sequences of these lengths, [P, heads, size], without gradients.

    Padding them costs more than a call for each, even for many of them (docs/decisions.md#speed).
    """
    parts = (x.transpose(0, 1).split(lengths, dim=1) for x in (query, key, value))
    attend = nn.functional.scaled_dot_product_attention
    attended = [attend(q[None], k[None], v[None], scale=scaling)[0] for q, k, v in zip(*parts, strict=True)]
    return torch.cat(attended, dim=1).transpose(0, 1)


def _look_nearby(scores: Tensor, places: Tensor, window: int) -> Tensor:
    """Scores [..., rows, pieces] of rows at these places, only of pieces up to `window` away.

    Others get the lowest number, not -inf: a row of padding may have no piece nearby, and NaN would reach gradients.
    """
    distances = places[:, None] - torch.arange(scores.shape[-1], device=scores.device)
    return scores.masked_fill(distances.abs() > window, torch.finfo(scores.dtype).min)


def pad(packed: Tensor, group: PaddedGroup) -> Tensor:
    """[P, ...] → [S, longest, ...], zeros where there is no piece."""
    if group.slots is not None:
        padded = packed.new_zeros(group.sequences * group.longest, *packed.shape[1:])
        packed = padded.index_copy(0, group.slots, packed)
    return packed.view(group.sequences, group.longest, *packed.shape[1:])
