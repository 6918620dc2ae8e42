"""Attention over packed sequences, registered with transformers under the name "packed".

On CUDA: `varlen_attn`, which reads the packed tensor as it is. Elsewhere: padding inside the attention only, which is a
small part of the work at sentence length; all linear layers still run without padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from spe_dist.batches.batch import PackedSequences

NAME = "packed"


@dataclass(frozen=True)
class VarlenLayout:
    """Where the sequences of a packed tensor are, for kernels of variable length."""

    sequence_starts: Tensor  # [S + 1] int32
    longest: int


@dataclass(frozen=True)
class PaddedLayout:
    """Where pieces go in sequences padded to one length."""

    slots: Tensor | None  # [P] in the padded [S * longest] places; None if the packed tensor holds all these places
    is_piece: Tensor  # [S, 1, 1, longest] bool, which places hold a piece


def padded_layout(packed: PackedSequences) -> PaddedLayout:
    """Padding inside the attention only."""
    lengths = packed.sequence_starts.diff()
    rows = torch.repeat_interleave(
        torch.arange(len(lengths), device=lengths.device), lengths, output_size=len(packed.positions)
    )
    is_piece = (torch.arange(packed.longest, device=lengths.device) < lengths[:, None])[:, None, None]
    return PaddedLayout(rows * packed.longest + packed.positions, is_piece)


def layout_of(packed: PackedSequences) -> VarlenLayout | PaddedLayout:
    """What the attention of the tensors' device needs to know; made once per forward and shared by all layers."""
    if packed.piece_ids.is_cuda:
        return VarlenLayout(packed.sequence_starts, packed.longest)
    return padded_layout(packed)


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
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence; query, key, value are [1, heads, P, size], the result is [1, P, heads, size]."""
    query, key, value = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))  # [P, heads, size]
    if isinstance(layout, VarlenLayout):
        starts, longest = layout.sequence_starts, layout.longest
        attended = varlen_attn(query, key, value, starts, starts, longest, longest, scale=scaling)
        assert isinstance(attended, Tensor)
        return attended.unsqueeze(0), None
    query, key, value = (_pad(x, layout).transpose(1, 2) for x in (query, key, value))
    # Written out: on CPU the backward of scaled_dot_product_attention takes five times as long at these sizes.
    scores = (query @ key.transpose(2, 3)).float() * scaling
    weights = scores.masked_fill(~layout.is_piece, float("-inf")).softmax(dim=3).to(value.dtype)
    attended = (nn.functional.dropout(weights, dropout) @ value).transpose(1, 2).flatten(0, 1)
    return (attended if layout.slots is None else attended[layout.slots]).unsqueeze(0), None


def _pad(packed: Tensor, layout: PaddedLayout) -> Tensor:
    """[P, heads, size] → [S, longest, heads, size]."""
    sequences, longest = layout.is_piece.shape[0], layout.is_piece.shape[3]
    if layout.slots is not None:
        padded = packed.new_zeros(sequences * longest, *packed.shape[1:])
        packed = padded.index_copy(0, layout.slots, packed)
    return packed.view(sequences, longest, *packed.shape[1:])


AttentionInterface.register(NAME, packed_attention)
