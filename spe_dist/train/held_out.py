"""Losses on held-out records: the same records with the same masks at every step, however many ranks there are.

They are laid out like one large batch. What is drawn for a record depends on its lane (see `batches/loader.py`), so it
is the same whichever rank computes it and however often a run was started. Nothing of training changes: there is no
dropout and no gradient, and no key is enqueued.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_shards.errors import UserError
from data_shards.shards.order import Order
from data_shards.shards.reader import ShardReader
from spe_dist.batches.batch import Batch
from spe_dist.batches.loader import Steps
from spe_dist.config import TrainConfig
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.method import Method
from spe_dist.methods.metric_sums import MetricSums
from spe_dist.train.metric_names import HELD_OUT


@dataclass(frozen=True)
class _OneBatch:
    ids: NDArray[np.int64]  # [lanes, lane_size]

    def record_ids(self, step: int, lanes: Sequence[int]) -> NDArray[np.int64]:
        return self.ids[np.asarray(lanes, dtype=np.int64)]


class HeldOut:
    """Evaluates a method on the held-out records of a run.

    Args:
        reader: reader of the dataset.
        order: order of the run; it holds some records out.
        method: method of the run.
        plan: plan of the run's batches.
        world: this rank among all.
        metrics: those of `Method.report` that are wanted.
        train: how often they are looked at.
    """

    def __init__(
        self,
        reader: ShardReader,
        order: Order,
        method: Method,
        plan: BatchPlan,
        world: World,
        *,
        metrics: Collection[str],
        train: TrainConfig,
    ) -> None:
        ids = order.held_out_ids()
        whole = BatchPlan(len(ids), plan.lane_size, plan.lanes_per_forward, world.size, plan.pieces_per_forward)
        cut = None if plan.pieces_per_forward is None else partial(whole.cut, world.rank)
        self._steps = Steps(reader, _OneBatch(ids), method.collate, whole.forwards(world.rank), cut)
        self._method, self._world, self._metrics, self._train = method, world, metrics, train

    def is_due(self, step: int) -> bool:
        """Whether a line of metrics after so many steps has the figures."""
        every, line_before = self._train.evaluate_every, step - self._train.log_every
        return step == self._train.steps or step // every > line_before // every

    def report(
        self, as_many_as_any_rank: Callable[[Sequence[Batch]], Sequence[Batch]], while_waiting: Callable[[], None]
    ) -> dict[str, float | str]:
        """Losses and accuracies of the objectives, and the seconds that it took; every rank must call this.

        Args:
            as_many_as_any_rank: adds empty forwards.
            while_waiting: called after each forward.

        Raises:
            UserError: a shard is missing or damaged.
        """
        began = time.perf_counter()
        method, device = self._method, self._world.device
        batches = self._steps[0]
        if isinstance(batches, UserError):
            raise batches
        losses, metrics, counts = self._sums(as_many_as_any_rank(batches), device, while_waiting)
        names = (*method.metrics, *method.step_metrics)
        sums = MetricSums(
            losses=dict(zip(method.terms, losses, strict=True)),
            counts=dict(zip(method.terms, counts, strict=True)),
            sums=dict(zip(names, metrics, strict=True)),
        )
        weights = zip(method.term_weights, method.terms, strict=True)
        loss = sum(weight * sums.mean_loss(term) for weight, term in weights)
        found = {name: value for name, value in method.report(sums).items() if name in self._metrics}
        found |= {"loss": loss, "seconds": time.perf_counter() - began}
        return {f"{HELD_OUT}{name}": value for name, value in found.items()}

    @torch.no_grad()
    def _sums(
        self, batches: Sequence[Batch], device: torch.device, while_waiting: Callable[[], None]
    ) -> list[list[float]]:
        """Losses, metrics and counts of all ranks."""
        model: Any = self._method.model
        sums: list[torch.Tensor] = []
        model.eval()
        try:
            for batch in batches:
                parts = [part.to(device, torch.float64) for part in self._method.evaluate(batch.to(device))]
                sums = [one + other for one, other in zip(sums, parts, strict=True)] if sums else parts
                while_waiting()
        finally:
            model.train()
        whole = self._world.all_reduce(torch.cat(sums))
        return [part.tolist() for part in whole.split([len(part) for part in sums])]
