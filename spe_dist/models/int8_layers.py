"""Layers whose products are of 8-bit integers, by oneDNN, which torch brings: for predicting on x86 CPUs.

Weights have a step for each output, inputs one for each row, which reaches from its lowest to its highest number. So
results do not depend on what else is in a batch, and no text is needed to find out what lies in which range. Between
products all is fp32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spe_dist.kernels.int8_passes import (
    Product,
    Steps,
    add_and_norm,
    attend_to_steps,
    attends,
    gelu_to_steps,
    mixed,
    scale_of,
    to_steps,
)
from spe_dist.models.packed_attention import VarlenLayout, packed_attention
from spe_dist.models.plain_encoder import PlainEncoder

BACKEND = "int8"

_WEIGHT_STEPS = 127  # to either side
_PIECES_AT_ONCE = 1024  # what lies between two products stays in the cache


class Int8Linear(nn.Module):
    """Linear layers that read the same steps, their results side by side.

    Args:
        layers: as trained; of those on "meta" only the sizes count, and weights are loaded later.
    """

    weight: Tensor
    weight_steps: Tensor
    bias: Tensor

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        weight = mixed(torch.cat([layer.weight.detach().float() for layer in layers]))
        weight = weight / scale_of(weight.shape[1])
        steps = weight.abs().amax(dim=1).clamp(min=1e-12) / _WEIGHT_STEPS
        self.register_buffer("weight", (weight / steps[:, None]).round().to(torch.int8))
        self.register_buffer("weight_steps", steps)
        self.register_buffer("bias", torch.cat([layer.bias.detach().float() for layer in layers]))
        self._ready: tuple[Tensor, Tensor, Tensor] | None = None  # made when first asked for

    def forward(self, inputs: Steps) -> Product:
        """Compute; [P, K] → [P, N]."""
        weight, zeros, columns = self._ready = self._ready or self._prepare()
        sums = torch.ops.onednn.qlinear_pointwise.default(
            inputs.steps, 1.0, 0, weight, self.weight_steps, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return Product(sums, inputs.places, columns, self.bias)

    def _prepare(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights in oneDNN's order, which fits this processor alone; their zeros; and their sums."""
        packed = torch.ops.onednn.qlinear_prepack(self.weight, None)
        zeros = torch.zeros(len(self.weight), dtype=torch.int32)
        return packed, zeros, self.weight.sum(dim=1) * self.weight_steps

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made again."""
        return {**self.__dict__, "_ready": None}


class Int8Layer(nn.Module):
    """A layer of a `PlainEncoder`.

    Args:
        layer: as trained, or on "meta".
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        attention: Any = layer.get_submodule("attention.self")
        norms: list[Any] = [layer.get_submodule(name) for name in ("attention.output.LayerNorm", "output.LayerNorm")]
        self.num_heads, self.scaling = attention.num_attention_heads, attention.scaling
        self.projections = Int8Linear([attention.query, attention.key, attention.value])
        self.attended = Int8Linear([layer.get_submodule("attention.output.dense")])
        self.inner = Int8Linear([layer.get_submodule("intermediate.dense")])
        self.outer = Int8Linear([layer.get_submodule("output.dense")])
        self.attended_norm, self.norm = norms

    def forward(self, states: Tensor, attention: Mapping[str, Any]) -> Tensor:
        """States [1, P, H] of the next layer, in the place of those given."""
        rows = states[0].float()  # also within autocast
        qkv, layout = self.projections(to_steps(rows)), attention["layout"]
        if isinstance(layout, VarlenLayout):
            steps = attend_to_steps(qkv, layout.sequence_starts, heads=self.num_heads, scaling=self.scaling)
        else:
            query, key, value = qkv.finished().view(len(rows), 3, self.num_heads, -1).permute(1, 2, 0, 3)[:, None]
            found, _ = packed_attention(self, query, key, value, None, scaling=self.scaling, **attention)
            steps = to_steps(found[0].flatten(1))
        add_and_norm(self.attended(steps), self.attended_norm, rows)
        steps = gelu_to_steps(self.inner(to_steps(rows)))
        add_and_norm(self.outer(steps), self.norm, rows)
        return rows[None]


def with_int8_layers(encoder: PlainEncoder) -> PlainEncoder:
    """An encoder with its layers replaced, in place.

    Args:
        encoder: in fp32, or without weights (on "meta"): they are loaded later.
    """
    layers: Any = encoder.encoder.get_submodule("layer")
    for number, layer in enumerate(layers):
        layers[number] = Int8Layer(layer)
    encoder.backend = BACKEND
    attends_here = attends(encoder.config.hidden_size // encoder.config.num_attention_heads)
    encoder.pieces_at_once = _PIECES_AT_ONCE if attends_here else 0
    return encoder


class Bf16Product(nn.Module):
    """A linear layer without bias, its inputs and weights rounded to bf16, [..., K] → [..., N] bf16.

    Weights may be widened later: inputs follow, for a processor that does not multiply bf16.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().bfloat16(), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute."""
        return nn.functional.linear(inputs.to(self.weight.dtype), self.weight)
