"""Attention over packed sequences, registered with transformers under the name "packed".

On CUDA: `varlen_attn`, which reads the packed tensor as it is. Elsewhere: padding inside the attention only, which is a
small part of the work at sentence length; all linear layers still run without padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from spe_dist.batches.batch import PackedSequences

NAME = "packed"


@dataclass(frozen=True)
class PackedLayout:
    """Where the sequences of a packed tensor are; made once per forward and shared by all layers."""

    sequence_starts: Tensor  # [S + 1] int32
    positions: Tensor  # [P]
    longest: int

    @classmethod
    def of(cls, packed: PackedSequences) -> PackedLayout:
        """The layout of packed sequences."""
        return cls(packed.sequence_starts, packed.positions, packed.longest)

    @cached_property
    def slots(self) -> Tensor:
        """Where each piece goes in the padded [S * longest] sequences, [P]."""
        lengths = self.sequence_starts.diff()
        rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
        return rows * self.longest + self.positions

    @cached_property
    def is_piece(self) -> Tensor:
        """Which padded places hold a piece, [S, 1, 1, longest] bool."""
        lengths = self.sequence_starts.diff()
        return (torch.arange(self.longest, device=lengths.device) < lengths[:, None])[:, None, None]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: PackedLayout,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence; query, key, value are [1, heads, P, size], the result is [1, P, heads, size]."""
    query, key, value = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))  # [P, heads, size]
    if query.is_cuda:
        starts, longest = layout.sequence_starts, layout.longest
        attended = varlen_attn(query, key, value, starts, starts, longest, longest, scale=scaling)
        assert isinstance(attended, Tensor)
        return attended.unsqueeze(0), None
    query, key, value = (_pad(x, layout).transpose(1, 2) for x in (query, key, value))
    # Written out: on CPU the backward of scaled_dot_product_attention takes five times as long at these sizes.
    scores = (query @ key.transpose(2, 3)).float() * scaling
    weights = scores.masked_fill(~layout.is_piece, float("-inf")).softmax(dim=3).to(value.dtype)
    attended = nn.functional.dropout(weights, dropout) @ value
    return attended.transpose(1, 2).flatten(0, 1)[layout.slots].unsqueeze(0), None


def _pad(packed: Tensor, layout: PackedLayout) -> Tensor:
    """[P, heads, size] → [S, longest, heads, size]."""
    num_sequences = len(layout.sequence_starts) - 1
    padded = packed.new_zeros(num_sequences * layout.longest, *packed.shape[1:])
    return padded.index_copy(0, layout.slots, packed).unflatten(0, (num_sequences, layout.longest))


AttentionInterface.register(NAME, packed_attention)
