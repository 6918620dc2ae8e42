"""Sums over the steps between two log lines, kept on the device so that no step waits for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from data_shards.errors import UserError
from spe_dist.engine.world import World
from spe_dist.methods.measures import Measures

_DIGEST_PRIME = 1_099_511_628_211


class Terms(Protocol):
    """What an interval must know of a method."""

    terms: Sequence[str]
    measures: Sequence[str]
    term_weights: Sequence[float]


class Interval:
    """Adds up losses, measures and counts; a checkpoint carries the sums, so a resumed run logs the same lines.

    Args:
        method: names of its terms and measures.
        world: this rank among all.
    """

    def __init__(self, method: Terms, world: World) -> None:
        self._method = method
        self._world = world
        device = world.device
        self._local = torch.zeros(len(method.terms) + len(method.measures), dtype=torch.float64, device=device)
        self._counts = torch.zeros(len(method.terms), dtype=torch.int64, device=device)
        # Not of the interval, but of the whole run:
        self._digests = torch.zeros(2, dtype=torch.int64, device=device)
        self._pieces_seen = torch.zeros((), dtype=torch.int64, device=device)
        self.seconds_before = 0.0  # of training, before the clock was started last
        self.start_clock()

    @property
    def elapsed_seconds(self) -> float:
        """Seconds of training behind the present weights, those before restarts included."""
        return self.seconds_before + time.perf_counter() - self._started

    def start_clock(self) -> None:
        """Count time, and the steps and pieces done in it, from here on."""
        self.waited, self._started = 0.0, time.perf_counter()
        self._steps, self._pieces_before = 0, int(self._pieces_seen)

    def add_step(self, counts: Tensor, pieces: Tensor, digests: Tensor) -> None:
        """Add a step's global counts [terms], pieces, and digests [2] of records and masks."""
        self._counts += counts
        self._pieces_seen += pieces
        self._digests.copy_(self._digests * _DIGEST_PRIME + digests)  # wraps; chained over the whole run
        self._steps += 1

    def add_forward(self, losses: Tensor, measures: Tensor) -> None:
        """Add a forward's sums on this rank."""
        self._local += torch.cat([losses.detach(), measures]).double()

    def close(self, step: int) -> tuple[Measures, dict[str, float | str]]:
        """Global sums and speeds of the interval; the next one begins. Every rank must call this.

        Raises:
            UserError: a loss is not finite.
        """
        sums = self._global_sums()
        measures = Measures(
            losses=dict(zip(self._method.terms, sums.tolist(), strict=False)),
            counts=dict(zip(self._method.terms, self._counts.double().tolist(), strict=True)),
            sums=dict(zip(self._method.measures, sums[len(self._method.terms) :].tolist(), strict=True)),
        )
        _require_finite(measures, step)
        seconds = time.perf_counter() - self._started
        pieces_seen, (records, masks) = int(self._pieces_seen), self._digests.tolist()
        speeds: dict[str, float | str] = {
            "steps_per_second": self._steps / seconds,
            "pieces_per_second": (pieces_seen - self._pieces_before) / seconds,
            "waiting_share": self.waited / seconds,
            "elapsed_seconds": self.seconds_before + seconds,
            "pieces_seen": pieces_seen,
            "digest_records": f"{records % (1 << 64):016x}",
            "digest_masks": f"{masks % (1 << 64):016x}",
        }
        for tensor in (self._local, self._counts):
            tensor.zero_()
        self.seconds_before += seconds
        self.start_clock()
        return measures, speeds

    def check_finite(self, step: int) -> None:
        """Refuse to go on with a loss that is not finite; before a checkpoint is written.

        Raises:
            UserError: names the term.
        """
        sums = self._global_sums()
        _require_finite(Measures(dict(zip(self._method.terms, sums.tolist(), strict=False)), {}, {}), step)

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

    def _global_sums(self) -> Tensor:
        sums = self._local.clone()
        if self._world.size > 1:
            dist.all_reduce(sums)
        return sums


def _require_finite(measures: Measures, step: int) -> None:
    wrong = [name for name, value in measures.losses.items() if not torch.isfinite(torch.tensor(value))]
    if wrong:
        raise UserError(
            f"the loss is not finite at step {step} (terms {', '.join(wrong)}); nothing after the last checkpoint was "
            "saved: start again with a lower optimizer.learning_rate, or look at the batches since then"
        )
