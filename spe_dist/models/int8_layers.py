"""Layers whose products are of 8-bit integers, by oneDNN, which torch brings: for predicting on x86 CPUs.

Weights have a step for each output, inputs one for each row, which reaches from its lowest to its highest number. So
results do not depend on what else is in a batch, and no text is needed to find out what lies in which range. Columns of
the inputs that are large are made smaller, and their weights larger (as in SmoothQuant); how large they are is told
by the weights before them. Between products all is fp32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spe_dist.kernels.int8_passes import Product, Steps, add_and_norm, attend_to_steps, attends, gelu_to_steps, to_steps
from spe_dist.models.packed_attention import VarlenLayout, packed_attention
from spe_dist.models.plain_encoder import PlainEncoder

BACKEND = "int8"

_WEIGHT_STEPS = 127  # to either side
_PROJECTIONS = ("attention.self.query", "attention.self.key", "attention.self.value")
_ATTENDED, _INNER, _OUTER = "attention.output.dense", "intermediate.dense", "output.dense"
_ATTENDED_NORM, _NORM = "attention.output.LayerNorm", "output.LayerNorm"
_PIECES_AT_ONCE = 1024  # what lies between two products stays in the cache
_DEVIATIONS = 3.0  # how far from its mean a number of a norm is looked for


class Int8Linear(nn.Module):
    """A linear layer of steps.

    Args:
        weight: [N, K] fp32; of one on "meta" only the size counts, and it is loaded later.
        bias: [N].
    """

    weight: Tensor
    weight_steps: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        steps = weight.abs().amax(dim=1).clamp(min=1e-12) / _WEIGHT_STEPS
        self.register_buffer("weight", (weight / steps[:, None]).round().to(torch.int8))
        self.register_buffer("weight_steps", steps)
        self.register_buffer("bias", bias.float())
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
        norm: that gives its inputs; None: none does.
    """

    factors: Tensor
    inner_factors: Tensor
    outer_factors: Tensor

    def __init__(self, layer: nn.Module, norm: nn.LayerNorm | None) -> None:
        super().__init__()
        attention: Any = layer.get_submodule("attention.self")
        self.num_heads, self.scaling = attention.num_attention_heads, attention.scaling
        self.attended_norm, self.norm = layer.get_submodule(_ATTENDED_NORM), layer.get_submodule(_NORM)
        weight, bias = _joined([layer.get_submodule(name) for name in _PROJECTIONS])
        attended, attended_bias = _joined([layer.get_submodule(_ATTENDED)])
        hidden, values = weight.shape[1], slice(2 * weight.shape[1], None)
        of_values = _factors(_reach(weight[values], bias[values], norm), attended)
        weight, bias = weight.clone(), bias.clone()
        weight[values] *= of_values[:, None]  # what is attended to is made smaller at its source
        bias[values] *= of_values
        factors = _factors(weight.new_ones(hidden) if norm is None else _reach_of(norm), weight)
        inner, inner_bias = _joined([layer.get_submodule(_INNER)])
        inner_factors = _factors(_reach_of(self.attended_norm), inner)
        outer, outer_bias = _joined([layer.get_submodule(_OUTER)])
        outer_factors = _factors(_reach(inner, inner_bias, self.attended_norm, activated=True), outer)
        self.register_buffer("factors", factors)
        self.register_buffer("inner_factors", inner_factors)
        self.register_buffer("outer_factors", outer_factors)
        self.projections = Int8Linear(weight / factors, bias)
        self.attended = Int8Linear(attended / of_values, attended_bias)
        self.inner = Int8Linear(inner / inner_factors, inner_bias)
        self.outer = Int8Linear(outer / outer_factors, outer_bias)

    def forward(self, states: Tensor, attention: Mapping[str, Any]) -> Tensor:
        """States [1, P, H] of the next layer, in the place of those given."""
        rows = states[0]
        qkv, layout = self.projections(to_steps(rows, self.factors)), attention["layout"]
        if isinstance(layout, VarlenLayout):
            steps = attend_to_steps(qkv, layout.sequence_starts, heads=self.num_heads, scaling=self.scaling)
        else:
            query, key, value = qkv.finished().view(len(rows), 3, self.num_heads, -1).permute(1, 2, 0, 3)[:, None]
            found, _ = packed_attention(self, query, key, value, None, scaling=self.scaling, **attention)
            steps = to_steps(found[0].flatten(1), torch.ones_like(self.factors))
        add_and_norm(self.attended(steps), self.attended_norm, rows)
        inner = self.inner(to_steps(rows, self.inner_factors))
        add_and_norm(self.outer(gelu_to_steps(inner, self.outer_factors)), self.norm, rows)
        return states


def with_int8_layers(encoder: PlainEncoder) -> PlainEncoder:
    """An encoder with its layers replaced, in place.

    Args:
        encoder: in fp32, or without weights (on "meta"): they are loaded later.
    """
    layers: Any = encoder.encoder.get_submodule("layer")
    norm = None if hasattr(encoder, "embeddings_project") else encoder.embeddings.LayerNorm
    with torch.no_grad():
        for number, layer in enumerate(layers):
            layers[number] = Int8Layer(layer, norm)
            norm = layers[number].norm
    encoder.backend = BACKEND
    attends_here = attends(encoder.config.hidden_size // encoder.config.num_attention_heads)
    encoder.pieces_at_once = _PIECES_AT_ONCE if attends_here else 0
    return encoder


class Bf16Product(nn.Module):
    """A linear layer without bias, its inputs and weights rounded to bf16, [..., K] → [..., N] bf16."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().bfloat16(), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute."""
        return nn.functional.linear(inputs.bfloat16(), self.weight)


def _joined(layers: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Weights and biases of linear layers of the same inputs, their results side by side."""
    return torch.cat([layer.weight.float() for layer in layers]), torch.cat([layer.bias.float() for layer in layers])


def _reach_of(norm: nn.LayerNorm) -> Tensor:
    """How large the results of a norm become, [H]."""
    return _DEVIATIONS * norm.weight.abs() + norm.bias.abs()


def _reach(weight: Tensor, bias: Tensor, norm: nn.LayerNorm | None, *, activated: bool = False) -> Tensor:
    """How large the results of a linear layer become that reads those of a norm, [N]; or those of its GELU."""
    scale, mean = (1.0, bias) if norm is None else (norm.weight, weight @ norm.bias + bias)
    spread = _DEVIATIONS * (weight * scale).norm(dim=1)
    return nn.functional.gelu(mean + spread) + 0.1 if activated else mean.abs() + spread


def _factors(reach: Tensor, weight: Tensor) -> Tensor:
    """What columns [K] are multiplied by, so that they and their weights [N, K] are about as large as each other's."""
    return (weight.abs().amax(dim=0).clamp(min=1e-6) / reach.clamp(min=1e-6)).sqrt()
