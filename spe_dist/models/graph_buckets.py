"""Packed sequences filled up to one of few sizes, for CUDA graphs: a graph computes only tensors of its own sizes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from data_shards.errors import UserError
from spe_dist.batches.batch import PackedSequences

SMALLEST_MULTIPLE = 64  # about the pieces of a padding sequence: a short one, like the sentences beside it


def require_packed_layers(packed: bool) -> None:
    """Raise a UserError if CUDA graphs are asked for and the layers run padded."""
    if not packed:
        raise UserError(
            "compute.graph_pieces is for encoders whose layers run packed, and this one's run padded: leave it out"
        )


def fill_up(packed: PackedSequences, multiple: int) -> PackedSequences:
    """Add sequences of padding pieces, so that few sizes occur; those that were there come first and stay as they are.

    Args:
        packed: P pieces of S sequences.
        multiple: a multiple of `SMALLEST_MULTIPLE`. The number of pieces becomes a multiple of this, the number of
            sequences a multiple of `multiple / SMALLEST_MULTIPLE`; `longest` is rounded up to a power of two.

    Returns:
        More than P and less than P + 2 · multiple pieces. Positions of padding are 0, which every encoder has.
    """
    pieces, sequences = len(packed.piece_ids), len(packed.sequence_starts) - 1
    step = multiple // SMALLEST_MULTIPLE
    fillers = _to_multiple(sequences + step, step) - sequences
    more = _to_multiple(pieces + fillers, multiple) - pieces
    starts = torch.arange(1, fillers + 1, device=packed.sequence_starts.device) * more // fillers
    longest = max(packed.longest, -(-more // fillers))
    return replace(
        packed,
        piece_ids=_extended(packed.piece_ids, more),
        positions=_extended(packed.positions, more),
        sequence_starts=torch.cat([packed.sequence_starts, (starts + pieces).to(packed.sequence_starts.dtype)]),
        longest=1 << (longest - 1).bit_length(),
        segments=None if packed.segments is None else _extended(packed.segments, more),
    )


def _to_multiple(count: int, of: int) -> int:
    return -(-count // of) * of


def _extended(values: Tensor, more: int) -> Tensor:
    return torch.cat([values, values.new_zeros(more, *values.shape[1:])])
