"""How fast one process makes the batches of a run, and what it spends its time on."""

from __future__ import annotations

import time

import numpy as np

from data_shards.errors import UserError
from spe_dist.batches.loader import Steps
from spe_dist.benchmarks.timing import Timed
from spe_dist.config import Config
from spe_dist.methods.registry import spec_of
from spe_dist.train.data_order import build_order, build_plan, open_reader

PARTS = ("order", "take", "collate")
_WARM_UP_STEPS = 5  # decode the first shards
_STEPS = 200  # of a repeat


def measure_loader(config: Config, *, repeats: int) -> list[Timed]:
    """Make batches of a run, all lanes in this process: seconds of a step, records per second and shares of the parts.

    The parts are `order` (which records), `take` (read them) and `collate` (make the method's batch of them).
    """
    plan = build_plan(config, world_size=1)
    reader = open_reader(config, lanes=len(plan.lanes_of_rank(0)))
    order, collate = build_order(config, reader.manifest), spec_of(config).build_collate(config, reader)
    steps = Steps(reader, order, collate, plan.forwards(0))
    for step in range(_WARM_UP_STEPS):
        _make(steps, step)
    seconds, step = [], _WARM_UP_STEPS
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(_STEPS):
            _make(steps, step)
            step += 1
        seconds.append((time.perf_counter() - started) / _STEPS)
    timed = Timed("loader", f"{len(steps.forwards[0]) * plan.lane_size} records a forward, one process", seconds)
    timed.notes["records/s"] = plan.global_batch / timed.median
    for part, share in _shares(steps, step).items():
        timed.notes[part] = f"{share:.0%}"
    return [timed]


def _make(steps: Steps, step: int) -> None:
    batches = steps[step]
    if isinstance(batches, UserError):
        raise batches


def _shares(steps: Steps, first: int) -> dict[str, float]:
    spent = np.zeros(len(PARTS))
    for step in range(first, first + _STEPS):
        for lanes in steps.forwards:
            times = [time.perf_counter()]
            ids = steps.order.record_ids(step, lanes)
            times.append(time.perf_counter())
            records = steps.reader.take(ids)
            times.append(time.perf_counter())
            steps.collate(records, ids, step, lanes)
            times.append(time.perf_counter())
            spent += np.diff(times)
    return dict(zip(PARTS, (spent / spent.sum()).tolist(), strict=True))
