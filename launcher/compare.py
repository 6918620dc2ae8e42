"""`spe compare RUN_A RUN_B`: the scores of two fine-tuned runs on the same data, and whether they differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
import yaml

from data_shards.errors import UserError
from launcher.arguments import parse_arguments
from spe_dist.finetuning.bootstrap import RESAMPLES
from spe_dist.finetuning.folder import DEV, FREE
from spe_dist.finetuning.predictions import read_run
from spe_dist.finetuning.score_report import score_text, write_scores
from spe_dist.finetuning.scored_run import check_same_gold, compare_scored_runs, score_run
from spe_dist.train.run_folder import CONFIG, flatten

ARCHITECTURE = "model."  # settings of what a model is made of


@dataclass(frozen=True)
class Compare:
    """Print F1 of both runs, mean and deviation over seeds, 95 % intervals, the difference and its p-value.

    Every seed of both runs must have predicted the same test data (RUN/predictions/).
    """

    first: tyro.conf.Positional[Path]
    """Folder of a fine-tuned run."""
    second: tyro.conf.Positional[Path]
    """Folder of another: differences are this one minus the first."""
    out: Path | None = None
    """Folder for scores.txt, scores.json and, with matplotlib, scores.png."""
    symmetric: tuple[str, ...] = ()
    """Types of relations whose direction means nothing."""
    resamples: int = RESAMPLES
    """Resamples of the bootstrap."""


def main(argv: list[str]) -> None:
    """Run `spe compare`.

    Raises:
        UserError: a run has no predictions, or the two were tested on different data.
    """
    command: Compare = parse_arguments(Compare, argv, prog="spe compare", description=__doc__)
    if command.resamples < 1:
        raise UserError(f"--resamples is {command.resamples}: at least 1, better 10000")
    folders = command.first, command.second
    runs = [read_run(folder) for folder in folders]
    check_same_gold(runs[0].gold, runs[1].gold)
    if runs[0].name == runs[1].name:
        runs = [replace(run, name=str(folder)) for run, folder in zip(runs, folders, strict=True)]
    _check_known_types(command.symmetric, {relation.type for one in runs[0].gold for relation in one.relations})
    scored = [score_run(run, symmetric=command.symmetric, resamples=command.resamples) for run in runs]
    tests = compare_scored_runs(*scored, resamples=command.resamples)
    if command.out is None:
        print(f"{score_text(scored, tests)}\n{_settings_line(folders)}")
        return
    text, files = write_scores(command.out, scored, tests, symmetric=command.symmetric)
    print(f"{text}\n{_settings_line(folders)}\nwrote {', '.join(files)} to {command.out}")


def _settings_line(folders: tuple[Path, Path]) -> str:
    """In which settings two runs differ, as one line."""
    settings = [_settings(folder) for folder in folders]
    if None in settings:
        return "settings: not compared, as a run has no seed-*/config.yaml"
    one, other = (flatten(values or {}) for values in settings)
    differing = [key for key in sorted((one.keys() | other.keys()) - FREE) if one.get(key) != other.get(key)]
    told = "; ".join(f"{key} {one.get(key)} → {other.get(key)}" for key in differing)
    line = f"settings that differ: {told or 'none'}"
    if any(key.startswith(ARCHITECTURE) for key in differing):
        line += (
            "\nwarning: the two differ in architecture, so the difference says nothing about what they started from; "
            "give both runs the same --model settings to compare pre-trainings"
        )
    return line


def _settings(folder: Path) -> dict[str, Any] | None:
    runs = [folder.resolve()]
    runs += [runs[0].parent] if runs[0].name == DEV else []  # RUN/dev has predictions, but no seeds
    found = [path for run in runs for path in sorted(run.glob(f"seed-*/{CONFIG}"))]
    return yaml.safe_load(found[0].read_text()) if found else None


def _check_known_types(symmetric: tuple[str, ...], known: set[str]) -> None:
    for name in symmetric:
        if name not in known:
            raise UserError(f"--symmetric {name}: the gold data have no such relations, but {', '.join(sorted(known))}")
