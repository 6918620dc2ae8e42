"""Layers whose products are of 8-bit integers, by oneDNN, which torch brings: for predicting on x86 CPUs.

Weights have a step for each output, inputs one step for all, which is fixed beforehand from what a layer read in sample
texts. So results do not depend on what else is in a batch. Between products all is fp32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spe_dist.kernels.int8_attention import LEVELS, Grid, attend_to_steps, attends, to_steps
from spe_dist.models.packed_attention import VarlenLayout, packed_attention
from spe_dist.models.plain_encoder import PlainEncoder

BACKEND = "int8"

_WEIGHT_STEPS = 127  # to either side
_PROJECTIONS = ("attention.self.query", "attention.self.key", "attention.self.value")
_OTHERS = ("attention.output.dense", "intermediate.dense", "output.dense")


@dataclass(frozen=True)
class Bounds:
    """Between which values inputs lie; 0 is one of them."""

    low: float = 0.0
    high: float = 0.0

    def extended(self, low: float, high: float) -> Bounds:
        """So that these lie between them, too."""
        return Bounds(min(self.low, low), max(self.high, high))

    def grid(self) -> Grid:
        """Steps from the lowest to the highest of them."""
        width = max(self.high - self.low, 1e-6) / LEVELS
        return Grid(width, min(max(round(-self.low / width), 0), LEVELS))


class _Ready(NamedTuple):
    """What a layer computes with, made when it is first asked."""

    weight: Tensor  # in oneDNN's order, which fits this processor alone
    zeros: Tensor
    inputs: Grid
    activated: Grid | None


class Int8Linear(nn.Module):
    """Linear layers of the same inputs, their results side by side; [P, K] → [P, N] fp32.

    Args:
        layers: as trained, on any device; of those on "meta" only the sizes count, and weights are loaded later.
        inputs: bounds of what they read.
        activated: bounds of the GELU of the results; the GELU is computed then, and given as steps.
    """

    weight: Tensor
    weight_steps: Tensor
    bias: Tensor
    grid: Tensor

    def __init__(self, layers: Sequence[nn.Linear], inputs: Bounds, *, activated: Bounds | None = None) -> None:
        super().__init__()
        weight = torch.cat([layer.weight.detach().float() for layer in layers])
        steps = weight.abs().amax(dim=1).clamp(min=1e-8) / _WEIGHT_STEPS
        biases = [
            weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach() for layer in layers
        ]
        self.register_buffer("weight", (weight / steps[:, None]).round().to(torch.int8))
        self.register_buffer("weight_steps", steps)
        self.register_buffer("bias", torch.cat(biases).float())
        grids = [*inputs.grid(), *(activated.grid() if activated else ())]
        self.register_buffer("grid", torch.tensor(grids, dtype=torch.float64, device=weight.device))
        self._ready: _Ready | None = None

    def forward(self, inputs: Tensor, added: Tensor | None = None) -> Tensor:
        """Compute; `inputs` [P, K] are fp32 or steps, `added` [P, N] is added to the results."""
        ready = self._ready = self._ready or self._prepare()
        if inputs.dtype != torch.uint8:
            inputs = to_steps(inputs, ready.inputs)
        weights = (inputs, *ready.inputs, ready.weight, self.weight_steps, ready.zeros)
        product = torch.ops.onednn.qlinear_pointwise
        if added is not None:
            return product.binary(*weights, added, self.bias, 1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "none", [], "")
        if ready.activated is not None:
            return product.default(*weights, self.bias, *ready.activated, torch.uint8, "gelu", [], "none")
        return product.default(*weights, self.bias, 1.0, 0, torch.float32, "none", [], "")

    @property
    def inputs(self) -> Grid:
        """The steps of what it reads."""
        self._ready = self._ready or self._prepare()
        return self._ready.inputs

    def _prepare(self) -> _Ready:
        width, zero, *activated = self.grid.tolist()
        return _Ready(
            weight=torch.ops.onednn.qlinear_prepack(self.weight, None),
            zeros=torch.zeros(len(self.weight), dtype=torch.int32),
            inputs=Grid(width, int(zero)),
            activated=Grid(activated[0], int(activated[1])) if activated else None,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made again."""
        return {**self.__dict__, "_ready": None}


class Int8Layer(nn.Module):
    """A layer of a `PlainEncoder`.

    Args:
        layer: as trained.
        bounds: of the inputs of its linear layers, by their names in the layer.
    """

    def __init__(self, layer: nn.Module, bounds: Mapping[str, Bounds]) -> None:
        super().__init__()
        attention: Any = layer.get_submodule("attention.self")
        self.num_heads, self.scaling = attention.num_attention_heads, attention.scaling
        attended, inner, outer = _OTHERS
        self.projections = _of(layer, _PROJECTIONS, bounds)
        self.attended = _of(layer, (attended,), bounds)
        self.attended_norm = layer.get_submodule("attention.output.LayerNorm")
        self.inner = _of(layer, (inner,), bounds, activated=bounds[outer])
        self.outer = _of(layer, (outer,), bounds)
        self.norm = layer.get_submodule("output.LayerNorm")

    def forward(self, states: Tensor, attention: Mapping[str, Any]) -> Tensor:
        """States [1, P, H] of the next layer."""
        states = states[0]
        qkv, layout = self.projections(states).view(len(states), 3, self.num_heads, -1), attention["layout"]
        if isinstance(layout, VarlenLayout):
            starts = layout.sequence_starts
            attended = attend_to_steps(qkv, starts, scaling=self.scaling, grid=self.attended.inputs)
        else:
            query, key, value = qkv.permute(1, 2, 0, 3)[:, None]
            found, _ = packed_attention(self, query, key, value, None, scaling=self.scaling, **attention)
            attended = found[0].flatten(1)
        states = self.attended_norm(self.attended(attended, states))
        return self.norm(self.outer(self.inner(states), states))[None]


def with_int8_layers(encoder: PlainEncoder, bounds: Mapping[str, Bounds] | None) -> PlainEncoder:
    """An encoder with its layers replaced, in place.

    Args:
        encoder: in fp32, or without weights (on "meta"): they are loaded later.
        bounds: what `bounds_of` found; None: they are loaded later, with the weights.
    """
    layers: Any = encoder.encoder.get_submodule("layer")
    for number, layer in enumerate(layers):
        names = (*_PROJECTIONS, *_OTHERS)
        layers[number] = Int8Layer(
            layer, {name: Bounds() if bounds is None else bounds[f"{number}.{name}"] for name in names}
        )
    encoder.backend = BACKEND
    encoder.attends_packed = attends(encoder.config.hidden_size // encoder.config.num_attention_heads)
    return encoder


@contextmanager
def bounds_of(encoder: PlainEncoder) -> Iterator[dict[str, Bounds]]:
    """What the linear layers of an encoder's layers read while the context lasts, by their names there."""
    found: dict[str, Bounds] = {}
    one_at_a_time = Lock()  # forwards may run side by side

    def watch(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = (end.item() for end in inputs[0].aminmax())
            with one_at_a_time:
                found[name] = found.get(name, Bounds()).extended(low, high)

        return hook

    modules = encoder.encoder.get_submodule("layer").named_modules()
    hooks = [one.register_forward_pre_hook(watch(name)) for name, one in modules if isinstance(one, nn.Linear)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _of(
    layer: nn.Module, names: Sequence[str], bounds: Mapping[str, Bounds], activated: Bounds | None = None
) -> Int8Linear:
    layers: list[Any] = [layer.get_submodule(name) for name in names]
    return Int8Linear(layers, bounds[names[0]], activated=activated)
