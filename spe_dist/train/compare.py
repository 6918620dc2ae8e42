"""Are two runs the same? Where do they first differ?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from data_shards.errors import UserError
from spe_dist.checkpoint.loaded import LoadedCheckpoint, list_checkpoints, step_of
from spe_dist.checkpoint.random_states import PREFIX as RANDOM_STATES
from spe_dist.train.run_folder import CHECKPOINTS
from spe_dist.train.run_log import OF_THE_MACHINE, read_metrics


@dataclass(frozen=True)
class Difference:
    """The first one: at a step, in a field of the metrics or a tensor of the checkpoint."""

    step: int
    field: str
    first: object
    second: object
    relative: float  # of the larger value; infinite where there is no such thing

    def __str__(self) -> str:
        """One line."""
        share = f" (relative difference {self.relative:.1e})" if math.isfinite(self.relative) else ""
        return f"step {self.step}: {self.field} is {self.first} and {self.second}{share}"


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common."""

    steps: list[int]  # logged by both
    checkpoint: int | None  # newest step that both have a checkpoint of
    difference: Difference | None


def compare_runs(first: Path, second: Path, *, rtol: float) -> Comparison:
    """Compare the metrics of all steps that both runs have logged, then the newest checkpoint that both have.

    Args:
        first: folder of a run.
        second: folder of another.
        rtol: relative difference up to which two numbers count as equal; digests must always be equal.

    Raises:
        UserError: there is no step that both have logged.
    """
    lines = [{line["step"]: line for line in _metrics(folder)} for folder in (first, second)]
    steps = sorted(lines[0].keys() & lines[1].keys())
    if not steps:
        raise UserError(
            f"{first} and {second} have no logged step in common ({_extent(lines[0])}, {_extent(lines[1])}): "
            "train both with the same train.log_every"
        )
    folders = [{step_of(path): path for path in list_checkpoints(run / CHECKPOINTS)} for run in (first, second)]
    checkpoint = max(folders[0].keys() & folders[1].keys(), default=None)
    differences = (_compare_lines(step, lines[0][step], lines[1][step], rtol) for step in steps)
    difference = next((found for found in differences if found), None)
    if difference is None and checkpoint is not None:
        one, other = (LoadedCheckpoint(found[checkpoint]) for found in folders)
        difference = _compare_checkpoints(one, other, rtol)
    return Comparison(steps, checkpoint, difference)


def _metrics(folder: Path) -> list[dict]:
    metrics = read_metrics(folder)
    if not metrics:
        raise UserError(f"{folder} has no metrics: name the folder of a run that has logged something")
    return metrics


def _extent(lines: dict[int, dict]) -> str:
    return f"{len(lines)} lines from step {min(lines)} to {max(lines)}"


def _compare_lines(step: int, first: dict, second: dict, rtol: float) -> Difference | None:
    fields = [field for field in first | second if field not in OF_THE_MACHINE]
    for field in sorted(fields, key=lambda name: not name.startswith("digest_")):  # causes before their effects
        one, other = first.get(field), second.get(field)
        relative = _relative(one, other)
        if relative > rtol:
            return Difference(step, field, one, other, relative)
    return None


def _relative(one: object, other: object) -> float:
    if one == other:
        return 0.0
    if not (isinstance(one, int | float) and isinstance(other, int | float)):
        return math.inf
    if math.isnan(one) and math.isnan(other):
        return 0.0
    difference = abs(one - other) / max(abs(one), abs(other))
    return math.inf if math.isnan(difference) else difference


def _compare_checkpoints(first: LoadedCheckpoint, second: LoadedCheckpoint, rtol: float) -> Difference | None:
    same_world = first.metadata["world_size"] == second.metadata["world_size"]
    for name in sorted(first.names() | second.names()):
        if name.startswith(RANDOM_STATES) and not same_world:
            continue
        if name not in first.names() & second.names():
            there = ("there", "missing") if name in first.names() else ("missing", "there")
            return Difference(first.step, name, *there, math.inf)
        one, other = first.get(name).double(), second.get(name).double()
        if one.shape != other.shape:
            return Difference(first.step, name, tuple(one.shape), tuple(other.shape), math.inf)
        if torch.equal(one, other):
            continue
        norms = float(one.norm()), float(other.norm())
        relative = float((one - other).norm()) / max(norms)
        if not relative <= rtol:
            return Difference(first.step, name, f"of norm {norms[0]:.6g}", f"of norm {norms[1]:.6g}", relative)
    return None
