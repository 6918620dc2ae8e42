"""Tells an experiment tracker what a run writes to its metrics: `python -m spe_dist.train.tracker TRACKER FOLDER NAME`.

A process of its own (`tracking.py` starts it), because trackers have threads, exit handlers, prompts and network that a
run must not depend on. It ends when its standard input does, and remembers in FOLDER/tracker.json what it has sent: a
run that goes on is the same run there, and steps that are made again after a restart are not sent again.
"""

from __future__ import annotations

import json
import math
import os
import select
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from data_shards.files import write_atomically
from spe_dist.settings import flatten
from spe_dist.train.metric_names import curve_points

PROJECT = "spe_dist"
_CONFIG, _METRICS, _STATE = "config.yaml", "metrics.jsonl", "tracker.json"
_MOST_AT_ONCE = 100  # parameters that MLflow takes in a request


@dataclass
class Sent:
    """What a tracker knows of a run.

    Args:
        identity: identity of the run there; empty if it does not know it yet.
        step: step of the last line that was sent.
    """

    identity: str = ""
    step: int = 0


class Tracker(Protocol):
    """A tracker's view of one run."""

    identity: str

    def log(self, points: Mapping[str, float], step: int) -> None:
        """Add a point to each of several curves."""

    def finish(self) -> None:
        """Send what is left."""


class WandB:
    """Weights & Biases; without a key it writes into the run's folder, for `wandb sync`."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, object], sent: Sent) -> None:
        import wandb

        self.identity = sent.identity or uuid.uuid4().hex[:16]
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        mode = None if os.environ.get("WANDB_MODE") or wandb.login(prompt=False) else "offline"
        known: dict[str, Any] = {"project": project, "name": name, "id": self.identity, "config": dict(config)}
        self._run = wandb.init(**known, resume="allow", dir=str(folder), mode=mode)

    def log(self, points: Mapping[str, float], step: int) -> None:
        """Add a point to each of several curves."""
        self._run.log(dict(points), step=step)

    def finish(self) -> None:
        """Send what is left."""
        self._run.finish()


class Trackio:
    """Trackio, which keeps its data on this machine unless its own variables say otherwise.

    It finds runs by name alone, and of several runs of a name takes the newest. So the name here is one of its own.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, object], sent: Sent) -> None:
        import trackio

        self.identity = sent.identity or f"{name}-{uuid.uuid4().hex[:6]}"
        resume = "allow" if sent.identity else "never"
        self._run = trackio.init(project=PROJECT, name=self.identity, config=dict(config), resume=resume)

    def log(self, points: Mapping[str, float], step: int) -> None:
        """Add a point to each of several curves."""
        self._run.log(dict(points), step=step)

    def finish(self) -> None:
        """Send what is left."""
        self._run.finish()


class MLflow:
    """MLflow; without MLFLOW_TRACKING_URI in the file `mlflow.db` beside the run's folder."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, object], sent: Sent) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parent / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=place)
        self.identity = sent.identity
        if self.identity:
            self._client.update_run(self.identity, status="RUNNING")
            return
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(project)
        experiment = known.experiment_id if known else self._client.create_experiment(project)
        self.identity = self._client.create_run(experiment, run_name=name).info.run_id
        settings = [Param(key, str(value)) for key, value in config.items()]
        for first in range(0, len(settings), _MOST_AT_ONCE):
            self._client.log_batch(self.identity, params=settings[first : first + _MOST_AT_ONCE])

    def log(self, points: Mapping[str, float], step: int) -> None:
        """Add a point to each of several curves."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in points.items()]
        self._client.log_batch(self.identity, metrics=metrics)

    def finish(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self.identity)


TRACKERS: dict[str, Callable[[Path, str, Mapping[str, object], Sent], Tracker]] = {
    "wandb": WandB,
    "trackio": Trackio,
    "mlflow": MLflow,
}


def follow(kind: str, folder: Path, name: str, is_over: Callable[[], bool]) -> None:
    """Send the lines of a run's metrics, those there are and those to come, until it is over.

    Args:
        kind: among `TRACKERS`.
        folder: folder of the run.
        name: name of the run there.
        is_over: waits a moment; whether no more lines will come.
    """
    states = json.loads((folder / _STATE).read_text()) if (folder / _STATE).exists() else {}
    sent = Sent(**states.get(kind, {}))
    tracker = TRACKERS[kind](folder, name, flatten(yaml.safe_load((folder / _CONFIG).read_text())), sent)
    sent.identity = tracker.identity
    lines, over = _new_lines(folder / _METRICS), False
    while not over:
        over = is_over()
        for line in next(lines):
            if line["step"] > sent.step:
                tracker.log(_points(line), line["step"])
                sent.step = line["step"]
        if states.get(kind) != asdict(sent):
            states[kind] = asdict(sent)
            write_atomically(folder / _STATE, json.dumps(states).encode())
    tracker.finish()


def _points(line: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in curve_points(line).items() if math.isfinite(value)}


def _new_lines(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Again and again, the whole lines that were added to a file; damaged ones are passed over."""
    offset = 0
    while True:
        found = []
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        offset += len(whole)
        for line in whole.splitlines():
            try:
                values = json.loads(line)
                found += [values] if isinstance(values["step"], int) else []
            except (ValueError, LookupError, TypeError):
                continue
        yield found


def _standard_input_ended() -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], 1.0)
    return bool(readable)


if __name__ == "__main__":
    follow(sys.argv[1], Path(sys.argv[2]), sys.argv[3], _standard_input_ended)
