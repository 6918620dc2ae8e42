"""What a person sees of a run: its metrics as they are written, read from the run folder."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spe_dist.config import Config
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import format_metrics

_SECONDS = 0.5


@contextmanager
def shown_progress(config: Config, *, enabled: bool) -> Iterator[None]:
    """Print the run's metrics while the context lasts.

    Every line of metrics is one line of output; in a terminal the last line says how far the run is and when it ends.
    """
    if not enabled:
        yield
        return
    print(
        f"run {config.run_folder}: {config.train.steps} steps of {config.batch.lanes * config.batch.lane_size} records"
    )
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(config, done), daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _follow(config: Config, done: threading.Event) -> None:
    path = Path(config.run_folder) / METRICS
    offset = path.stat().st_size if path.exists() else 0
    while True:
        ended = done.wait(_SECONDS)
        size = path.stat().st_size if path.exists() else 0
        offset = min(offset, size)  # a resumed run cuts off what comes after its checkpoint
        if size > offset:
            with path.open() as file:
                file.seek(offset)
                whole_lines, _, _ = file.read(size - offset).rpartition("\n")  # the last may be half written
            for line in whole_lines.splitlines():
                _show(json.loads(line), config.train.steps)
            offset += len(whole_lines.encode()) + bool(whole_lines)
        if ended:
            if sys.stdout.isatty():
                print("\r\033[K", end="", flush=True)
            return


def _show(metrics: dict, steps: int) -> None:
    line = format_metrics(metrics)
    if not sys.stdout.isatty():
        print(line, flush=True)
        return
    seconds = (steps - metrics["step"]) * metrics["seconds_per_step"]
    filled = round(30 * metrics["step"] / steps)
    bar = "█" * filled + "░" * (30 - filled)
    print(f"\r\033[K{line}\n{bar} {metrics['step']}/{steps}, {seconds / 60:.0f} min left", end="", flush=True)
