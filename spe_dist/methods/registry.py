"""The methods on offer, and what the training loop asks of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from data_shards.reader import ShardReader
from spe_dist.batches.batch import SpanPairBatch
from spe_dist.batches.loader import Collate
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.deepspeed_engine import Engine
from spe_dist.engine.world import World
from spe_dist.methods.measures import Measures
from spe_dist.methods.spe import Spe


class Method(Protocol):
    """A way to pre-train; `methods/spe.py` is the example to read."""

    terms: Sequence[str]
    measures: Sequence[str]
    term_weights: Sequence[float]
    collate: Collate
    model: nn.Module
    encoder_json: str

    def forward(self, engine: Engine, batch: SpanPairBatch) -> tuple[Tensor, Tensor]:
        """Sums of losses, by term, and of measures."""
        ...

    def after_step(self, engine: Engine, world: World, plan: BatchPlan) -> None:
        """What follows the optimizer step."""
        ...

    def discard_keys(self) -> None:
        """Forget what forwards have left for `after_step`."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Live tensors that a checkpoint holds beyond the engine's."""
        ...

    def report(self, sums: Measures) -> dict[str, float]:
        """What to log."""
        ...


class BuildMethod(Protocol):
    """Makes a method for a run."""

    def __call__(self, config: Any, reader: ShardReader, *, device: torch.device) -> Method:
        """Build it."""
        ...


METHODS: dict[str, BuildMethod] = {"spe": Spe}
