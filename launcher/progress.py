"""What a person sees of a run: its metrics as they are written, read from the run folder."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from launcher.output import clear_line, repeated, say
from spe_dist.config import Config
from spe_dist.engine.world import World
from spe_dist.finetuning.folder import LOG, RESULT, Result, format_result
from spe_dist.methods.method_spec import Column
from spe_dist.methods.registry import spec_of
from spe_dist.train import run_log
from spe_dist.train.run_folder import METRICS, log_path
from spe_dist.train.run_log import format_lines, format_metrics

_OVERVIEW_SECONDS = 10
_FAILED = " ERROR "  # in its log
_SAID = re.compile(r"\S+ \S+ (?P<level>INFO|WARNING) (?P<logger>\S+): (?P<message>.*)")  # date, time, …


@contextmanager
def shown_progress(config: Config, *, enabled: bool) -> Iterator[None]:
    """Print the run's metrics, and what its first rank warns of, while the context lasts.

    Every line of metrics is one line of output; in a terminal the last line says how far the run is and when it ends.
    """
    if not enabled:
        yield
        return
    say(f"run {config.run_folder}: {config.train.steps} steps of {config.batch.lanes * config.batch.lane_size} records")
    folder, out, columns = Path(config.run_folder), sys.stdout, spec_of(config).columns
    tail, log = _Tail(folder / METRICS), _Tail(log_path(folder, World()))

    def show() -> None:
        for match in filter(None, map(_SAID.fullmatch, log.new_lines())):
            if match["level"] == "WARNING":
                say(f"{clear_line(out)}warning: {match['message']}", to=out)
        for line in tail.new_lines():
            with suppress(ValueError):  # damaged lines were cut out of the middle meanwhile
                _show(json.loads(line), columns, config.train.steps, out)

    with repeated(show):
        yield
    say(clear_line(out), end="")


@contextmanager
def shown_seeds(folders: Mapping[int, Path]) -> Iterator[None]:
    """Print the epochs of several seeds while the context lasts, each line with its seed in front.

    Before them, once, what the first seed says of data, types and weights: it is the same for all.
    """
    opening, out = _Opening(next(iter(folders.values()))), sys.stdout
    tails = {seed: _Tail(folder / METRICS) for seed, folder in folders.items()}

    def show() -> None:
        for line in opening.new_lines():
            say(line, to=out)
        for seed, tail in tails.items():
            for line in tail.new_lines():
                say(f"seed {seed}: {format_metrics(json.loads(line))}", to=out)

    with repeated(show):
        yield


@contextmanager
def shown_fine_tunings(folders: Mapping[str, Path], openings: Collection[str]) -> Iterator[None]:
    """Say of many fine-tunings how each ended, and every ten seconds how far those are that go on.

    Args:
        folders: folders of each seed, by name.
        openings: names of those of which it is told what they say before their first epoch.
    """
    opening, out = {name: _Opening(folders[name]) for name in openings}, sys.stdout
    overview = _Overview(folders)

    def show() -> None:
        for name, said in opening.items():
            for line in said.new_lines():
                say(f"{name}: {line}", to=out)
        for line in overview.new_lines(time.monotonic()):
            say(line, to=out)

    with repeated(show):
        yield


class _Overview:
    """How far many fine-tunings are."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders, self._done = folders, 0
        self._logs = {name: _Tail(folder / LOG) for name, folder in folders.items()}
        self._metrics = {name: _Tail(folder / METRICS) for name, folder in folders.items()}
        self._running: dict[str, str] = {}  # name → how far
        self._next = time.monotonic() + _OVERVIEW_SECONDS

    def new_lines(self, now: float) -> list[str]:
        """Lines to print at this time."""
        lines = []
        for name, log in list(self._logs.items()):
            self._look(name, log.new_lines())
            result = self._folders[name] / RESULT
            if name in self._running and result.exists():
                lines.append(f"{name}: {format_result(Result(**json.loads(result.read_text()))).partition(': ')[2]}")
                self._done += 1
                del self._running[name], self._logs[name]
        if now >= self._next:
            self._next = now + _OVERVIEW_SECONDS
            going_on = [f"{name}, {how_far}" for name, how_far in self._running.items()]
            lines.append("; ".join([f"{self._done} of {len(self._folders)} fine-tunings done", *going_on]))
        return lines

    def _look(self, name: str, log: Sequence[str]) -> None:
        """Find out whether a fine-tuning goes on, and how far it is."""
        if log:
            self._running.setdefault(name, "beginning")
        if metrics := self._metrics[name].new_lines():
            self._running[name] = f"epoch {json.loads(metrics[-1])['epoch']}"
        if any(_FAILED in line for line in log):
            self._running.pop(name, None)


class _Opening:
    """What a fine-tuning says before its first epoch, from its log."""

    def __init__(self, folder: Path) -> None:
        self._log = _Tail(folder / LOG)
        self._over = False

    def new_lines(self) -> list[str]:
        """Said since the last call."""
        said = []
        for line in self._log.new_lines():
            match = _SAID.fullmatch(line)  # lines of a traceback do not
            if match is None:
                continue
            self._over = self._over or (match["logger"], match["level"]) == (run_log.__name__, "INFO")
            if not self._over:
                said.append(match["message"])
        return said


class _Tail:
    """The end of a file of lines, from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = self._size()

    def new_lines(self) -> list[str]:
        """Whole lines written since the last call."""
        size = self._size()
        self._offset = min(self._offset, size)  # a resumed run cuts off what comes after its checkpoint
        if size == self._offset:
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole_lines, _, _ = file.read(size - self._offset).rpartition(b"\n")  # the last may be half written
        self._offset += len(whole_lines) + bool(whole_lines)
        return whole_lines.decode(errors="replace").split("\n") if whole_lines else []

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def _show(metrics: dict, columns: Sequence[Column], steps: int, out: TextIO) -> None:
    line = "\n".join(format_lines(metrics, columns))
    if not out.isatty():
        say(line, to=out)
        return
    seconds = (steps - metrics["step"]) * metrics["seconds_per_step"]
    filled = round(30 * metrics["step"] / steps)
    bar = "█" * filled + "░" * (30 - filled)
    say(f"{clear_line(out)}{line}\n{bar} {metrics['step']}/{steps}, {seconds / 60:.0f} min left", end="", to=out)
