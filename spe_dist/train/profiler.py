"""`--profile`: a trace of a few steps, for chrome://tracing, Perfetto or TensorBoard, and its dearest operators."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from spe_dist.engine.world import World

LOGGER = logging.getLogger(__name__)

_SKIPPED = 5  # steps before: allocators and caches settle
_ROWS = 10


@contextmanager
def traced(folder: Path, world: World, *, steps: int) -> Iterator[Callable[[], None]]:
    """Trace some steps of the run on this rank.

    Yields:
        What to call after every step.
    """
    if not steps:
        yield lambda: None
        return
    folder.mkdir(parents=True, exist_ok=True)
    on_gpu = world.device.type == "cuda"

    def write(profiler: profile) -> None:
        path = folder / f"rank-{world.rank}.json"
        profiler.export_chrome_trace(str(path))
        order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=_ROWS, max_name_column_width=60)
        path.with_suffix(".txt").write_text(f"{steps} steps\n{table}\n")
        LOGGER.info("wrote the trace %s", path)

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    plan = schedule(skip_first=_SKIPPED, wait=0, warmup=1, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as profiler:
        yield profiler.step
