"""How fast one process makes the batches of a run, and what it spends its time on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_shards.errors import UserError
from spe_dist.batches.collate_span_pairs import SpanPairCollate
from spe_dist.batches.loader import Steps
from spe_dist.methods.spe import build_collate
from spe_dist.methods.spe_config import SpeConfig
from spe_dist.train.plan import build_order, build_plan, open_reader

PARTS = ("order", "take", "draw", "pack", "digest")
_WARM_UP_STEPS = 5  # decode the first shards


def measure_loader(config: SpeConfig, *, seconds: float) -> dict[str, Any]:
    """Make batches of a run, all lanes in this process, and measure.

    Args:
        config: the run; its shards are read.
        seconds: how long to measure the speed; the parts are measured as long again.

    Returns:
        `records_per_second`; `records_per_cpu_second`, which other programs on the machine disturb less;
        `records_per_forward`; `records`, how many were made; and `shares` of the time by part: `order` (which
        records), `take` (read them), `draw` (spans, permutations, masks, views), `pack` and `digest`.

    Raises:
        UserError: there is no such dataset, or it is damaged.
    """
    reader, plan = open_reader(config), build_plan(config, world_size=1)
    order, collate = build_order(config, reader.manifest), build_collate(config, reader.manifest)
    steps = Steps(reader, order, collate, plan.forwards(0))
    for step in range(_WARM_UP_STEPS):
        _make(steps, step)
    step, started, cpu_started = _WARM_UP_STEPS, time.perf_counter(), time.process_time()
    while time.perf_counter() < started + seconds:
        _make(steps, step)
        step += 1
    spent, cpu_spent = time.perf_counter() - started, time.process_time() - cpu_started
    records = (step - _WARM_UP_STEPS) * plan.global_batch
    return {
        "records_per_second": records / spent,
        "records_per_cpu_second": records / cpu_spent,
        "records_per_forward": len(steps.forwards[0]) * plan.lane_size,
        "records": records,
        "shares": _shares(steps, collate, step, seconds),
    }


def _make(steps: Steps, step: int) -> None:
    batches = steps[step]
    if isinstance(batches, UserError):
        raise batches


def _shares(steps: Steps, collate: SpanPairCollate, first: int, seconds: float) -> dict[str, float]:
    spent, step, end = np.zeros(len(PARTS)), first, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for lanes in steps.forwards:
            spent += _part_seconds(steps, collate, step, lanes)
        step += 1
    return dict(zip(PARTS, (spent / spent.sum()).tolist(), strict=True))


def _part_seconds(steps: Steps, collate: SpanPairCollate, step: int, lanes: Sequence[int]) -> NDArray[np.float64]:
    times = [time.perf_counter()]
    ids = steps.order.record_ids(step, lanes)
    times.append(time.perf_counter())
    records = steps.reader.take(ids)
    times.append(time.perf_counter())
    drawn = collate.draw(records, step, lanes)
    times.append(time.perf_counter())
    collate.batch(drawn)
    times.append(time.perf_counter())
    collate.digests(drawn, ids, lanes)
    times.append(time.perf_counter())
    return np.diff(times)
