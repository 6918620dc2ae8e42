"""Sums over the steps between two log lines, so that no step waits for the device.

What is computed there is summed there; what the host knows, counts of items and digests, stays on the host.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from data_shards.errors import PassingError
from spe_dist.batches.batch import SIZES
from spe_dist.engine.peak_flops import peak_of_device
from spe_dist.engine.world import World
from spe_dist.methods.metric_sums import MetricSums
from spe_dist.methods.workload import Workload

_DIGEST_PRIME = 1_099_511_628_211


class Terms(Protocol):
    """What the accumulator must know of a method."""

    terms: Sequence[str]
    metrics: Sequence[str]  # of each forward
    step_metrics: Sequence[str]  # of each step
    counted: Sequence[str]  # beside the terms' items

    def model_flops(self, workload: Workload) -> int:
        """What the model had to compute."""
        ...


class MetricsAccumulator:
    """Adds up losses, metrics and counts; a checkpoint carries the sums, so a resumed run logs the same lines."""

    def __init__(self, method: Terms, world: World) -> None:
        self._method = method
        self._world = world
        peak = peak_of_device(world.device)
        self._peak = peak and peak * world.size  # FLOP/s of all ranks; None if nobody publishes it
        device = world.device
        summed = (*method.terms, *method.metrics, *method.step_metrics)
        self._local = torch.zeros(len(summed), dtype=torch.float64, device=device)
        self._counts = torch.zeros(len(method.terms), dtype=torch.int64)
        # Of the steps since the clock was started, which after a restart are not all of the interval:
        self._work = torch.zeros(len(method.terms) + len(method.counted) + len(SIZES), dtype=torch.int64)
        # Not of the interval, but of the whole run:
        self._digests = torch.zeros(2, dtype=torch.int64)
        self._pieces_seen = torch.zeros((), dtype=torch.int64)
        self.seconds_before = 0.0  # of training, before the clock was started last
        self.start_clock()

    @property
    def elapsed_seconds(self) -> float:
        """Seconds of training behind the present weights, those before restarts included."""
        return self.seconds_before + time.perf_counter() - self._started

    def start_clock(self) -> None:
        """Count time, and the steps and work done in it, from here on."""
        self.waited = self.saving = 0.0  # seconds spent waiting for batches and for saves
        self._started = time.perf_counter()
        self._steps = self._forwards = 0
        self._work.zero_()

    def leave_out(self, seconds: float) -> None:
        """Do not count some seconds, just passed, as time of training."""
        self._started += seconds

    def add_step(self, counts: Tensor, sizes: Tensor, digests: Tensor, *, forwards: int) -> None:
        """Add a step of some forwards of every rank.

        Args:
            counts: over all ranks, of terms and `counted`, on the host like all of these.
            sizes: `SIZES` [4] over all ranks.
            digests: digests of records and masks, [2].
            forwards: forwards of a rank.
        """
        self._counts += counts[: len(self._counts)]
        self._work += torch.cat([counts, sizes])
        self._pieces_seen += sizes[0]
        self._digests.copy_(self._digests * _DIGEST_PRIME + digests)  # wraps; chained over the whole run
        self._steps += 1
        self._forwards += forwards * self._world.size

    def add_forward(self, losses: Tensor, metrics: Tensor) -> None:
        """Add a forward's sums on this rank."""
        sums = torch.cat([losses.detach(), metrics]).double()
        self._local[: len(sums)] += sums

    def add_step_metrics(self, metrics: Tensor) -> None:
        """Add a step's sums on this rank."""
        self._local[len(self._local) - len(metrics) :] += metrics.to(self._local)

    def close(self, step: int) -> tuple[MetricSums, dict[str, float | str]]:
        """Global sums and speeds of the interval; the next one begins. Every rank must call this.

        Raises:
            PassingError: a loss is not finite.
        """
        sums = self._global_sums()
        names = (*self._method.metrics, *self._method.step_metrics)
        metrics = MetricSums(
            losses=dict(zip(self._method.terms, sums.tolist(), strict=False)),
            counts=dict(zip(self._method.terms, self._counts.double().tolist(), strict=True)),
            sums=dict(zip(names, sums[len(self._method.terms) :].tolist(), strict=True)),
        )
        _require_finite(metrics, step)
        seconds = time.perf_counter() - self._started
        workload, (records, masks) = self._work_done(), self._digests.tolist()
        speeds: dict[str, float | str] = {
            "steps_per_second": self._steps / seconds,
            "pieces_per_second": workload.pieces / seconds,
            **self._compute_speeds(workload, seconds),
            "waiting_share": self.waited / seconds,
            "saving_share": self.saving / seconds,
            "elapsed_seconds": self.seconds_before + seconds,
            "pieces_seen": int(self._pieces_seen),
            "digest_records": f"{records % (1 << 64):016x}",
            "digest_masks": f"{masks % (1 << 64):016x}",
        }
        for tensor in (self._local, self._counts):
            tensor.zero_()
        self.seconds_before += seconds
        self.start_clock()
        return metrics, speeds

    def check_finite(self, step: int) -> None:
        """Refuse to go on with a loss that is not finite; before a checkpoint is written.

        Raises:
            PassingError: names the term.
        """
        sums = self._global_sums()
        _require_finite(MetricSums(dict(zip(self._method.terms, sums.tolist(), strict=False)), {}, {}), step)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint saves, whole and equal on all ranks. Every rank must call this.

        The sums of all ranks move to rank 0, here as after a restore, so that both go on with the same additions.
        """
        sums = self._global_sums()
        self._local.copy_(sums)
        self.share_restored()
        return self.tensors() | {"interval.sums": sums}

    def tensors(self) -> dict[str, Tensor]:
        """Where a checkpoint's values go; call `share_restored` afterwards."""
        return {
            "interval.sums": self._local,
            "interval.counts": self._counts,
            "interval.digests": self._digests,
            "interval.pieces_seen": self._pieces_seen,
        }

    def share_restored(self) -> None:
        """When every rank holds the global sums, after a restore: leave them to rank 0."""
        if not self._world.is_first:
            self._local.zero_()

    def _work_done(self) -> Workload:
        """The work since the clock was started."""
        values = self._work.tolist()
        names = (*self._method.terms, *self._method.counted)
        counts = dict(zip(names, values, strict=False))
        sizes = dict(zip(SIZES, values[len(names) :], strict=True))
        return Workload(counts=counts, forwards=self._forwards, **sizes)

    def _compute_speeds(self, workload: Workload, seconds: float) -> dict[str, float]:
        flops_per_second = self._method.model_flops(workload) / seconds
        speeds = {"model_tflops_per_second": flops_per_second / 1e12, "padding_saved": workload.padding_saved}
        return speeds | ({"mfu": flops_per_second / self._peak} if self._peak else {})

    def _global_sums(self) -> Tensor:
        return self._world.all_reduce(self._local.clone())


def _require_finite(metrics: MetricSums, step: int) -> None:
    wrong = [name for name, value in metrics.losses.items() if not torch.isfinite(torch.tensor(value))]
    if wrong:
        raise PassingError(
            f"the loss is not finite at step {step} (terms {', '.join(wrong)}); nothing after the last checkpoint was "
            "saved: start again with a lower optimizer.learning_rate, or look at the batches since then"
        )
