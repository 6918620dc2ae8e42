"""Encoders whose attention cannot be told where sequences begin (DeBERTa), run on groups of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spe_dist.batches.batch import PackedSequences
from spe_dist.models.architectures import layers_of
from spe_dist.models.packed_attention import AttentionRows, PaddedGroup, PaddedLayout, pad, padded_layout


def grouped_layout(packed: PackedSequences, *, together: bool) -> PaddedLayout:
    """Groups of sequences of similar length, or all sequences together, on the device of the pieces.

    Groups depend on lengths, so a GPU is waited for once.
    """
    device = packed.piece_ids.device
    if not together:
        layout = padded_layout(replace(packed, sequence_starts=packed.sequence_starts.cpu()))
        groups = tuple(
            replace(group, slots=_moved(group.slots, device), is_piece=_moved(group.is_piece, device))
            for group in layout.groups
        )
        return PaddedLayout(groups, layout.order.to(device), layout.places.to(device))
    lengths, pieces = packed.sequence_starts.diff(), torch.arange(len(packed.piece_ids), device=device)
    rows = torch.arange(len(lengths), device=device).repeat_interleave(lengths, output_size=len(pieces))
    is_piece = torch.arange(packed.longest, device=device) < lengths[:, None]
    group = PaddedGroup(len(lengths), packed.longest, rows * packed.longest + packed.positions, is_piece[:, None, None])
    return PaddedLayout((group,), pieces, pieces)


def states_of_groups(model: Any, layout: PaddedLayout, inputs: Mapping[str, Tensor]) -> Tensor:
    """States of the last layer, [P, H].

    Args:
        model: model of Hugging Face.
        layout: which pieces make which rows.
        inputs: arguments of the model, [P, ...].
    """
    sizes = [group.pieces for group in layout.groups]
    inputs = {**inputs, "attention_mask": torch.ones_like(layout.order)}  # padding gets zeros
    of_groups = {name: values[layout.order].split(sizes) for name, values in inputs.items()}
    found = []
    for number, group in enumerate(layout.groups):
        padded = {name: pad(parts[number], group) for name, parts in of_groups.items()}
        states = model(**padded).last_hidden_state.flatten(0, 1)
        found.append(states if group.slots is None else states[group.slots])
    return torch.cat(found).index_select(0, layout.places)


@contextmanager
def attention_of_last_layer(model: Any) -> Iterator[list[Tensor]]:
    """What the last layer of a DeBERTa attends to, [S, heads, longest, longest] of each group, before dropout."""
    kept: list[Tensor] = []

    def keep(_: Any, inputs: tuple[Tensor, ...]) -> None:
        kept.append(inputs[0])

    last: Any = layers_of(model)[-1]
    hook = last.attention.self.dropout.register_forward_pre_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()


def attention_of_rows(
    of_groups: list[Tensor], layout: PaddedLayout, packed: PackedSequences, rows: AttentionRows
) -> list[Tensor]:
    """Attention probabilities of the rows of each sequence, [heads, rows, pieces of the sequence], fp32."""
    starts = packed.sequence_starts[:-1].long()
    in_order = [one for group in of_groups for one in group]
    places = layout.places[starts].argsort().argsort().tolist()
    wanted = rows.pieces.split(rows.counts)
    return [
        in_order[place][:, pieces - start, :length].float()
        for place, pieces, start, length in zip(places, wanted, starts, rows.lengths, strict=True)
    ]


def _moved(values: Tensor | None, device: torch.device) -> Tensor | None:
    return None if values is None else values.to(device)
