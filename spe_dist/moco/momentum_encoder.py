"""The key encoder: a slow average of the query encoder (MoCo; SPE paper, Figure 6).

It starts as a copy, runs without dropout, covers only what makes keys, and is kept in fp32: in bf16 a step of
(1 - 0.999) of the difference is below the resolution of most weights and would be lost.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MomentumEncoder:
    """An exponential moving average of a module, outside the trained module and the engine.

    Args:
        query_encoder: the module to follow, with its initial weights in full precision.
        momentum: m of key ← m · key + (1 - m) · query.
        device: where keys are computed.
        precision: what keys are computed in: weights stay fp32, bf16 computes under autocast.
    """

    def __init__(self, query_encoder: nn.Module, *, momentum: float, device: torch.device, precision: str) -> None:
        self.momentum = momentum
        self.device = device
        self.autocast = precision == "bf16"
        self.encoder = copy.deepcopy(query_encoder).float().to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, *inputs: object) -> Tensor:
        """Keys of a batch, in fp32."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return self.encoder(*inputs).float()

    @torch.no_grad()
    def update(self, query_parameters: Mapping[str, Tensor]) -> None:
        """Move towards the query encoder's weights, given by name; after the optimizer step."""
        for name, key in self.encoder.named_parameters():
            key.lerp_(query_parameters[name].float(), 1 - self.momentum)

    def state(self) -> dict[str, Tensor]:
        """The live weights that a checkpoint saves and overwrites, by name."""
        return dict(self.encoder.named_parameters())
