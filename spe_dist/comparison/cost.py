"""What a pre-training has cost, as its metrics say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spe_dist.comparison.comparison import MeasuredStep, Pretraining
from spe_dist.comparison.report import Trained
from spe_dist.config import Config
from spe_dist.finetuning.tuning import seconds_of
from spe_dist.train.line_files import read_json_lines
from spe_dist.train.run_folder import METRICS


def read_cost(run: Pretraining, *, step: int | None = None) -> Trained | None:
    """What a pre-training has cost so far, or up to a step; None if it has not begun.

    Of a fine-tuning on distant labels only the hours are known.
    """
    if not isinstance(run, Config):
        return Trained(hours=seconds_of(run) / 3600)
    lines = [line for line in _metrics(run) if step is None or line["step"] <= step]
    if not lines:
        return None
    last, before, petaflops = lines[-1], 0, 0.0
    for line in lines:
        petaflops += (line["step"] - before) * _petaflops_of_step(line)
        before = line["step"]
    return Trained(
        hours=last["elapsed_seconds"] / 3600,
        steps=last["step"],
        records=last["records_seen"],
        pieces=last["pieces_seen"],
        petaflops=petaflops,
    )


def measured_step(run: Config) -> MeasuredStep | None:
    """A step in the newest interval of a run that is over; None if it is not."""
    lines = _metrics(run)
    if not lines or lines[-1]["step"] < run.train.steps:
        return None
    return MeasuredStep(lines[-1]["seconds_per_step"], _petaflops_of_step(lines[-1]))


def _petaflops_of_step(line: dict[str, Any]) -> float:
    return line["model_tflops_per_second"] / 1e3 * line["seconds_per_step"]


def _metrics(run: Config) -> list[dict[str, Any]]:
    path = Path(run.run_folder) / METRICS
    return [values for _, values in read_json_lines(path, field="step")] if path.is_file() else []
