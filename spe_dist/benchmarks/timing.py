"""Times of variants that take turns, and the memory that one call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Timed:
    """A variant of a case: seconds of every repeat, and what else is known of it."""

    case: str
    variant: str
    seconds: list[float]
    notes: dict[str, float | str] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / self.median

    def times_faster(self, baseline: Timed) -> float:
        """Median over the repeats of the baseline's seconds to this one's, each pair measured side by side."""
        return statistics.median(b / mine for mine, b in zip(self.seconds, baseline.seconds, strict=True))


def take_turns(
    case: str, variants: Mapping[str, Callable[[], object]], *, repeats: int, device: torch.device
) -> list[Timed]:
    """Call every variant once to warm it up, then all of them in turn, `repeats` times."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for call in variants.values():
        call()
    for _ in range(repeats):
        for name, call in variants.items():
            wait(device)
            started = time.perf_counter()
            call()
            wait(device)
            seconds[name].append(time.perf_counter() - started)
    return [Timed(case, name, times) for name, times in seconds.items()]


def time_kernels(
    case: str, variant: str, calls: Sequence[Callable[[], object]], *, repeats: int, device: torch.device
) -> Timed:
    """Seconds of one of some calls that do the same to different tensors.

    On a GPU those of its kernels alone, by its own clock: all calls are recorded as one graph, which is replayed, so
    that it waits neither for the host nor finds in its cache what an earlier call has left there, if there are enough.
    """
    if device.type != "cuda":
        (timed,) = take_turns(case, {variant: lambda: [call() for call in calls]}, repeats=repeats, device=device)
        return Timed(case, variant, [seconds / len(calls) for seconds in timed.seconds])
    for call in calls:
        call()
    wait(device)
    graph, seconds = torch.cuda.CUDAGraph(), []
    with torch.cuda.graph(graph):
        results = [call() for call in calls]  # kept until the graph is gone: each has memory of its own
    for _ in range(repeats + 1):
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        seconds.append(began.elapsed_time(ended) / 1e3 / len(results))
    return Timed(case, variant, seconds[1:])


def time_copy(device: torch.device, *, repeats: int) -> Timed:
    """A copy of what no cache holds, with GB/s that are read and written: a measured roofline."""
    size = 2**30 if device.type == "cuda" else 2**26
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timed = time_kernels("copy", f"{size >> 20:,} MiB", [lambda: target.copy_(source)], repeats=repeats, device=device)
    timed.notes["GB/s"] = 2 * size / timed.median / 1e9
    return timed


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors that a call holds at a time beyond those held before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    assert profiled.profiler is not None and profiled.profiler.kineto_results is not None
    held = most = 0
    for event in profiled.profiler.kineto_results.events():  # in order of time
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
