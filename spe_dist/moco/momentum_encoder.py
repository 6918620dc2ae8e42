"""The key encoder: a slow average of the query encoder (MoCo; SPE paper, Figure 6).

It starts as a copy, runs without dropout, covers only what makes keys, and is kept in fp32: in bf16 a step of
(1 - 0.999) of the difference is below the resolution of most weights and would be lost.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from spe_dist.models.joint_projections import lay_side_by_side


class MomentumEncoder:
    """An exponential moving average of a module, outside the trained module and the engine.

    Args:
        query_encoder: the module to follow, with its initial weights in full precision.
        momentum: m of key ← m · key + (1 - m) · query.
        device: where keys are computed.
        precision: what keys are computed in: fp32 by the average itself, bf16 by a rounded copy of it.
    """

    def __init__(self, query_encoder: nn.Module, *, momentum: float, device: torch.device, precision: str) -> None:
        self.momentum = momentum
        self.encoder = copy.deepcopy(query_encoder).float().to(device).eval().requires_grad_(False)
        self.computing = self.encoder  # what makes keys
        if precision == "bf16":
            self.computing = copy.deepcopy(self.encoder).bfloat16()
            lay_side_by_side(self.computing)
        self._parameters: dict[str, Tensor] = dict(self.encoder.named_parameters())
        self._rounded: list[Tensor] = list(self.computing.parameters())
        self._moved = False  # since it was rounded

    @torch.no_grad()
    def encode(self, *inputs: object) -> Tensor:
        """Keys of a batch, in fp32."""
        if self._moved and self.computing is not self.encoder:
            torch._foreach_copy_(self._rounded, list(self._parameters.values()))
        self._moved = False
        return self.computing(*inputs).float()

    @torch.no_grad()
    def update(self, query_parameters: Mapping[str, Tensor]) -> None:
        """Move towards the query encoder's weights, given by name; after the optimizer step."""
        keys = list(self._parameters.values())
        queries = [query_parameters[name] for name in self._parameters]
        if any(query.dtype != torch.float32 for query in queries):
            wide = [torch.empty_like(key) for key in keys]
            torch._foreach_copy_(wide, queries)
            queries = wide
        torch._foreach_lerp_(keys, queries, 1 - self.momentum)
        self._moved = True

    @property
    def names(self) -> Iterable[str]:
        """Names of its parameters."""
        return self._parameters.keys()

    def state(self) -> dict[str, Tensor]:
        """The live weights that a checkpoint saves and overwrites, by name."""
        self._moved = True  # as far as can be known here
        return dict(self._parameters)
