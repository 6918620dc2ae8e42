"""A whole step of a recipe on its device: how fast, how much of that the host takes, and what the device waits for."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice, pairwise
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from spe_dist.benchmarks.timing import Timed, wait
from spe_dist.benchmarks.training_step import load_batches, opened
from spe_dist.config import Config
from spe_dist.methods.registry import spec_of
from spe_dist.train.session import Session

_LOADED = 8  # steps whose batches are made beforehand
_WARM_UP = 4  # steps, in which shapes are new to the allocator and kernels are built
_WARM_UP_OF_GRAPHS = 2 * _LOADED  # each size is met, then recorded
_STEPS = {"cuda": 10, "cpu": 1}  # of a repeat
_DEAREST = 12  # kernels to name


def measure_step(config: Config, *, repeats: int) -> list[Timed]:
    """Seconds of a step; on a GPU also what it waits for, and a row for each of the kernels that take most of its time.

    Notes of the first row: records and pieces a second, model TFLOP/s and MFU, milliseconds in which the host launches
    a step, waits of the host for the GPU in a step and where they are, kernels and copies of a step, the share of time
    in which the GPU computes, peak memory of the steps and of the largest step that is rehearsed; with compiled layers,
    the graphs that were compiled in the warm-up and, as none should be, after it.
    """
    graphs = [_graphs(config)]
    with tempfile.TemporaryDirectory() as folder, opened(config, spec_of(config).build, Path(folder)) as session:
        device = session.world.device
        loaded = load_batches(session, _LOADED)
        if device.type == "cuda":
            loaded = [[batch.pin_memory() for batch in batches] for batches in loaded]
        in_turn = cycle(loaded)

        def steps(count: int) -> None:
            for batches in islice(in_turn, count):
                session.take_step(batches, config.optimizer.learning_rate)

        steps(_WARM_UP_OF_GRAPHS if config.compute.graph_pieces else _WARM_UP)
        graphs.append(_graphs(config))
        rehearsed = _peak_gib(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        row = _timed(session, steps, repeats=repeats)
        row.notes["peak GiB"], row.notes["rehearsed GiB"] = _peak_gib(device), rehearsed
        if config.compute.compile:
            counts = [late - early for early, late in pairwise([*graphs, _graphs(config)])]
            row.notes["graphs in warm-up"], row.notes["graphs after warm-up"] = counts
        return [row] if device.type == "cpu" else [row, *_on_gpu(row, steps)]


def _graphs(config: Config) -> int:
    """Number of graphs compiled by this process so far; 0, without importing Dynamo, for a run that compiles none."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"] if config.compute.compile else 0


def _peak_gib(device: torch.device) -> float | str:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else ""


def _timed(session: Session, steps: Callable[[int], None], *, repeats: int) -> Timed:
    metrics, count = session.metrics, _STEPS[session.world.device.type]
    seconds, host = [], []
    for _ in range(repeats):
        wait(session.world.device)
        metrics.start_clock()
        began = time.perf_counter()
        steps(count)
        host.append((time.perf_counter() - began) / count)
        _, speeds = metrics.close(0)  # waits for the device
        seconds.append((time.perf_counter() - began) / count)
    records = session.plan.global_batch
    row = Timed("step", f"{spec_of(session.config).title}, {records:,} records", seconds)
    row.notes["records/s"] = records / row.median
    row.notes["pieces/s"] = speeds["pieces_per_second"]
    row.notes["TFLOP/s"] = speeds["model_tflops_per_second"]
    row.notes["MFU"] = f"{float(speeds['mfu']):.1%}" if "mfu" in speeds else ""
    row.notes["host ms"] = statistics.median(host) * 1e3
    return row


def _on_gpu(row: Timed, steps: Callable[[int], None]) -> list[Timed]:
    """Adds notes of waits and kernels to the row; one more row for each of the dearest kernels."""
    with _counted_waits() as waits:
        steps(1)
    row.notes["waits a step"] = " ".join([str(waits.total()), *(f"{place} x {n}" for place, n in waits.most_common(4))])
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        steps(2)
        torch.cuda.synchronize()
    kernels: dict[str, list[float]] = {}  # microseconds of each launch
    for event in profiled.events() or []:
        if event.device_type == DeviceType.CUDA:
            kernels.setdefault(event.name, []).append(event.time_range.elapsed_us())
    busy = {name: sum(times) / 2e6 for name, times in kernels.items()}  # seconds a step
    row.notes["kernels a step"] = sum(map(len, kernels.values())) / 2
    row.notes["GPU busy"] = f"{sum(busy.values()) / row.median:.0%}"
    dearest = sorted(busy, key=lambda name: -busy[name])[:_DEAREST]
    return [
        Timed("kernel of a step", name[:80], [busy[name]], {"kernels a step": len(kernels[name]) / 2})
        for name in dearest
    ]


@contextmanager
def _counted_waits() -> Iterator[Counter[str]]:
    """How often the host waits for the GPU while the block lasts, by file and line."""
    found: Counter[str] = Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found.update(f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message))
