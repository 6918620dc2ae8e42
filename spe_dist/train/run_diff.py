"""Are two runs the same? Where do they first differ?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from data_shards.counted import counted
from data_shards.errors import UserError
from spe_dist.checkpoint.random_states import PREFIX as RANDOM_STATES
from spe_dist.checkpoint.reader import LoadedCheckpoint, fault_of, list_checkpoints, step_of
from spe_dist.train.metric_names import GRADIENTS, HELD_OUT, OF_THE_MACHINE
from spe_dist.train.run_folder import CHECKPOINTS
from spe_dist.train.run_log import read_metrics

_CAUSES = ("digest_records", "digest_masks", "digest_queue")  # the order in which one brings about the next
# Near zero, a value is compared by the scale it is computed at: losses, cosines and shares are sums of terms about 1 in
# size, of which nothing may be left. These are not:
_OF_ANY_SIZE = ("learning_rate", "gradient_norm")
_OF_PARAMETERS = ("master", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Difference:
    """The first one: at a step, in a field of the metrics or a tensor of the checkpoint."""

    step: int
    field: str
    first: object
    second: object
    relative: float  # of the larger value, or of 1 where that is smaller; infinite where there is no such thing

    def __str__(self) -> str:
        """One line."""
        share = f" (relative difference {self.relative:.1e})" if math.isfinite(self.relative) else ""
        return f"step {self.step}: {self.field} is {self.first} and {self.second}{share}"


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common."""

    steps: list[int]  # logged by both
    checkpoint: int | None  # newest step that both have a whole checkpoint of
    difference: Difference | None


def compare_runs(first: Path, second: Path, *, rtol: float) -> Comparison:
    """Compare the metrics of all steps that both runs have logged, then the newest checkpoint that both have.

    Args:
        first: folder of a run.
        second: folder of another.
        rtol: relative difference up to which two floats count as equal; of losses, cosines and other values below 1,
            their absolute difference; of tensors, the difference of all of a kind (all master weights, all queues) over
            the norm of all. If it is not 0, accuracies are left out, as they jump by whole items. Digests, counters
            and ids must always be equal.

    Raises:
        UserError: there is no step that both have logged.
    """
    lines = [{line["step"]: line for line in read_metrics(folder)} for folder in (first, second)]
    steps = sorted(lines[0].keys() & lines[1].keys())
    if not steps:
        raise UserError(
            f"{first} and {second} have no logged step in common ({_extent(lines[0])}, {_extent(lines[1])}): "
            "train both with the same train.log_every"
        )
    differences = (_compare_lines(step, lines[0][step], lines[1][step], rtol) for step in steps)
    difference = next((found for found in differences if found), None)
    pair = _common_checkpoint(first, second)
    if difference is None and pair is not None:
        difference = _compare_checkpoints(*pair, rtol)
    return Comparison(steps, pair and pair[0].step, difference)


def _extent(lines: dict[int, dict]) -> str:
    return f"{counted(len(lines), 'line')} from step {min(lines)} to {max(lines)}"


def _compare_lines(step: int, first: dict, second: dict, rtol: float) -> Difference | None:
    fields = [field for field in first | second if field not in OF_THE_MACHINE]
    # Either run may have measured these at other steps, its last for example, or never.
    now_and_then, both = (HELD_OUT, GRADIENTS), first.keys() & second.keys()
    fields = [field for field in fields if not field.startswith(now_and_then) or field in both]
    for field in sorted(fields, key=lambda name: _CAUSES.index(name) if name in _CAUSES else len(_CAUSES)):
        if rtol and field.endswith("_accuracy"):
            continue
        one, other = first.get(field), second.get(field)
        relative = _relative(one, other, unit=0.0 if field in _OF_ANY_SIZE else 1.0)
        if relative > (rtol if isinstance(one, float) and isinstance(other, float) else 0):
            return Difference(step, field, one, other, relative)
    return None


def _relative(one: object, other: object, *, unit: float) -> float:
    if one == other:
        return 0.0
    if not (isinstance(one, int | float) and isinstance(other, int | float)):
        return math.inf
    if math.isnan(one) and math.isnan(other):
        return 0.0
    difference = abs(one - other) / max(abs(one), abs(other), unit)
    return math.inf if math.isnan(difference) else difference


def _common_checkpoint(first: Path, second: Path) -> tuple[LoadedCheckpoint, LoadedCheckpoint] | None:
    folders = [{step_of(path): path for path in list_checkpoints(run / CHECKPOINTS)} for run in (first, second)]
    for step in sorted(folders[0].keys() & folders[1].keys(), reverse=True):
        pair = [found[step] for found in folders]
        if not any(fault_of(checkpoint) for checkpoint in pair):
            return LoadedCheckpoint(pair[0]), LoadedCheckpoint(pair[1])
    return None


def _compare_checkpoints(first: LoadedCheckpoint, second: LoadedCheckpoint, rtol: float) -> Difference | None:
    same_world = first.metadata["world_size"] == second.metadata["world_size"]
    names = sorted(first.names() | second.names())
    names = [name for name in names if same_world or not name.startswith(RANDOM_STATES)]
    for name in names:
        if name not in first.names() & second.names():
            there = ("there", "missing") if name in first.names() else ("missing", "there")
            return Difference(first.step, name, *there, math.inf)
        elif first.get(name).shape != second.get(name).shape:
            return Difference(first.step, name, tuple(first.get(name).shape), tuple(second.get(name).shape), math.inf)
    norms: dict[str, float] = {}  # of all tensors of a kind: one alone may hold nothing but rounding
    for name in names:
        norms[_kind(name)] = math.hypot(norms.get(_kind(name), 0.0), float(first.get(name).double().norm()))
    for name in names:
        one, other = first.get(name), second.get(name)
        if torch.equal(one, other):
            continue
        distance, norm = float((one.double() - other.double()).norm()), norms[_kind(name)]
        relative = distance / norm if norm else math.inf
        if not (one.is_floating_point() and relative <= rtol):
            shown = [f"of norm {float(tensor.double().norm()):.6g}" for tensor in (one, other)]
            return Difference(first.step, name, shown[0], shown[1], relative)
    return None


def _kind(name: str) -> str:
    last = name.rpartition(".")[2]
    return last if last in _OF_PARAMETERS else name.partition(".")[0]
