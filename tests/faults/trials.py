"""What was done to a run, and what it made of it: read from the run's own records, and compared with one left alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spe_dist.checkpoint.reader import fault_of, list_checkpoints, step_of
from spe_dist.train.run_folder import CHECKPOINTS, METRICS
from spe_dist.train.run_log import read_metrics
from spe_dist.train.start_times import read_starts

NOT_OURS = "process and imports"  # the part of a start that is Python's


@dataclass(frozen=True)
class Injected:
    """A fault that was done to a run.

    Args:
        time: Unix time.
        step: the last step in the metrics by then.
    """

    time: float
    step: int


@dataclass(frozen=True)
class Trial:
    """A fault, and how the run came through it.

    Args:
        steps_lost: made once more, because they came after the checkpoint.
        seconds: from the fault to the next optimizer step; None if the next fault came before it.
        own_seconds: of these, ours: all of the start but the process and its imports.
    """

    steps_lost: int
    seconds: float | None
    own_seconds: float | None


@dataclass(frozen=True)
class Verdict:
    """How a whole run compares with the one that was left alone.

    Args:
        wrong: what is not as it should be, in a line; None if all is well.
        batches_lost_or_repeated: steps without a line, with two, or with other records, masks or queue.
    """

    wrong: str | None
    batches_lost_or_repeated: int


def inject(folder: Path, fault: Callable[[], object]) -> Injected:
    """Do something to a run, and remember how far it was."""
    injected = Injected(time.time(), last_step(folder))
    fault()
    return injected


def trials_of(folder: Path, faults: Sequence[Injected]) -> list[Trial]:
    """What the run's list of starts says of each fault, in the order they came."""
    starts = read_starts(folder)
    trials = []
    for index, fault in enumerate(faults):
        end = faults[index + 1].time if index + 1 < len(faults) else math.inf
        later = [start for start in starts if start["time"] > fault.time]
        if not later:
            continue
        start = later[0]
        begin = faults[index - 1].time if index else 0.0
        hit_a_step = any(begin < other["time"] <= fault.time for other in starts)
        lost = max(0, fault.step - start["after_step"]) if hit_a_step else 0  # else counted with the fault before
        if start["time"] > end:
            trials.append(Trial(lost, None, None))
            continue
        seconds = start["seconds"]
        trials.append(Trial(lost, start["time"] - fault.time, seconds["total"] - seconds[NOT_OURS]))
    return trials


def digests_in(line: Mapping[str, object]) -> list[str]:
    """Metrics that are equal at any number of ranks: what a step read and drew."""
    return [name for name in line if name.startswith("digest_")]


def judge(folder: Path, alone: Path) -> Verdict:
    """Compare a run that has ended with one that was left alone; their last checkpoints too."""
    mine, other = read_metrics(folder), read_metrics(alone)
    by_step = {line["step"]: line for line in mine}
    steps = [line["step"] for line in other]
    wrong_batches = sum(
        step not in by_step or any(by_step[step][name] != line[name] for name in digests_in(line))
        for step, line in zip(steps, other, strict=True)
    )
    wrong_batches += len(mine) - len(by_step) + len(by_step.keys() - set(steps))
    return Verdict(_what_is_wrong(folder, wrong_batches, by_step, other), wrong_batches)


def judge_beginning(folder: Path, alone: Path) -> Verdict:
    """The same of a run with another number of steps, which changes learning rates and so losses: batches only."""
    mine, other = read_metrics(folder), read_metrics(alone)
    steps = [line["step"] for line in mine]
    wrong = sum(step != expected for expected, step in enumerate(steps, start=1))
    wrong += sum(
        line[name] != reference[name] for line, reference in zip(mine, other, strict=False) for name in digests_in(line)
    )
    return Verdict(f"{wrong} batches lost or repeated" if wrong else None, wrong)


def _what_is_wrong(folder: Path, wrong_batches: int, by_step: dict[int, dict], other: list[dict]) -> str | None:
    if wrong_batches:
        return f"{wrong_batches} batches lost or repeated"
    for line in other:
        for name in (name for name in line if name.endswith("loss")):
            if not math.isclose(by_step[line["step"]][name], line[name], rel_tol=1e-4, abs_tol=1e-6):
                return f"{name} of step {line['step']} is {by_step[line['step']][name]}, not {line[name]}"
    newest = list_checkpoints(folder / CHECKPOINTS)[-1:]
    if not newest or step_of(newest[0]) != other[-1]["step"]:
        return "the last step has no checkpoint"
    fault = fault_of(newest[0])
    return f"{newest[0].name}: {fault}" if fault else None


def last_step(folder: Path) -> int:
    """The last step in a run's metrics; 0 if there is none."""
    path = folder / METRICS
    return read_metrics(folder)[-1]["step"] if path.exists() and b"\n" in path.read_bytes() else 0


def wait_until(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """Look every 10 ms.

    Raises:
        AssertionError: it took too long.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.01)
