"""How long a start took and in what, one line per start of a run: what a restart costs, and how often there was one."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import psutil

from spe_dist.train.line_files import read_json_lines

STARTS = "starts.jsonl"
LOGGER = logging.getLogger(__name__)


class StartClock:
    """Times the parts of a start, from the process's own beginning to the end of the first step."""

    def __init__(self) -> None:
        age = max(0.0, time.time() - psutil.Process().create_time())  # of a clock that was set back meanwhile: 0
        self._last = time.monotonic() - age
        self.seconds: dict[str, float] = {}

    def lap(self, part: str) -> None:
        """What was done since the last call was this part."""
        now = time.monotonic()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


def write_start(folder: Path, clock: StartClock, *, first_step: int, world_size: int) -> None:
    """Add a line to the run's list of starts, and say it in the log."""
    total = sum(clock.seconds.values())
    parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in clock.seconds.items())
    LOGGER.info("first step after %.1f s: %s", total, parts)
    start = {
        "time": time.time(),
        "after_step": first_step,
        "world_size": world_size,
        "seconds": {**clock.seconds, "total": total},
    }
    try:
        with (folder / STARTS).open("a") as file:
            file.write(json.dumps(start) + "\n")
    except OSError as error:
        LOGGER.warning("cannot write %s: %s", folder / STARTS, error.strerror)


def read_starts(folder: Path) -> list[dict]:
    """The starts of a run, oldest first: `time` (Unix), `after_step`, `world_size`, and `seconds` by part."""
    return [values for _, values in read_json_lines(folder / STARTS, field="time")]
