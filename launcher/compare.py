"""`spe compare RUN_A RUN_B`: compare the scores of two fine-tuned runs on the same data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from data_shards.errors import UserError
from launcher.arguments import parse_arguments
from launcher.output import print_json
from spe_dist.finetuning.bootstrap import RESAMPLES
from spe_dist.finetuning.cases import find_cases
from spe_dist.finetuning.folder import FREE
from spe_dist.finetuning.predictions import read_run, require_predictions
from spe_dist.finetuning.score_report import score_json, score_text, write_scores
from spe_dist.finetuning.scored_run import compare_scored_runs, score_run
from spe_dist.settings import differences
from spe_dist.tasks import DEFAULT as DEFAULT_TASK
from spe_dist.tasks import config_of_task, settings_of_run

ARCHITECTURE = "model."  # settings of what a model is made of


@dataclass(frozen=True)
class Compare:
    """Print F1 of both runs (mean and standard deviation over seeds), 95 % intervals, the difference and its p-value.

    Every seed of both runs must have predicted the same test data (RUN/predictions/).
    """

    first: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_A")]]
    """Folder of a fine-tuned run."""
    second: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_B")]]
    """Folder of another run. Differences are this run minus the first."""
    out: Path | None = None
    """Folder for scores.txt, scores.json and, with matplotlib, scores.png."""
    symmetric: tuple[str, ...] = ()
    """Relation types whose direction is ignored."""
    cases: int | None = None
    """Also show this number of sentences (or documents, mentions, questions) on which each run is better than the
    other: text, annotation, and what both found. They are sorted by the difference in right minus wrong relations
    (mean over pairs of seeds), then by the same difference for entities. If both runs have the same seeds, equal seeds
    are paired; otherwise each seed of one run is paired with each of the other."""
    resamples: int = RESAMPLES
    """Number of bootstrap resamples."""
    json: bool = False
    """Print what scores.json would hold instead of tables."""


def main(argv: list[str]) -> None:
    """Run `spe compare`."""
    command: Compare = parse_arguments(Compare, argv, prog="spe compare", description=__doc__)
    if command.resamples < 1:
        raise UserError(f"--resamples is {command.resamples}: it must be at least 1 (10000 is usual)")
    if command.cases is not None and command.cases < 1:
        raise UserError(f"--cases is {command.cases}: it must be at least 1")
    folders = command.first, command.second
    for folder in folders:
        require_predictions(folder)
    settings = [settings_of_run(folder) for folder in folders]
    tasks = [(values or {}).get("task", DEFAULT_TASK) for values in settings]
    if tasks[0] != tasks[1]:
        raise UserError(f"{folders[0]} is of the task {tasks[0]} and {folders[1]} of {tasks[1]}: name runs of one task")
    scoring = config_of_task(tasks[0], source=str(folders[0])).scoring()
    runs = [read_run(scoring, folder) for folder in folders]
    scoring.check_same_gold(runs[0].gold, runs[1].gold)
    if runs[0].name == runs[1].name:
        runs = [replace(run, name=str(folder)) for run, folder in zip(runs, folders, strict=True)]
    if command.symmetric:
        scoring = scoring.with_symmetric(command.symmetric, runs[0].gold)
    scored = [score_run(scoring, run, resamples=command.resamples) for run in runs]
    tests = compare_scored_runs(*scored, resamples=command.resamples)
    cases = None if command.cases is None else find_cases(scoring, *runs, most=command.cases)
    report = scored, tests, cases
    text, files = (score_text(*report), ()) if command.out is None else write_scores(command.out, *report)
    if command.json:
        print_json(score_json(*report))
        return
    wrote = f"\nwrote {', '.join(files)} to {command.out}" if files else ""
    print(f"{text}\n{_settings_line(*settings)}{wrote}")


def _settings_line(first: dict[str, Any] | None, second: dict[str, Any] | None) -> str:
    """The settings in which two runs differ, as one line, and a warning below it if architectures differ."""
    if first is None or second is None:
        return "settings: not compared, as a run has no seed-*/config.yaml"
    differing = differences(first, second, free=FREE)
    told = "; ".join(f"{key} {before} → {now}" for key, before, now in differing)
    line = f"settings that differ: {told or 'none'}"
    if any(key.startswith(ARCHITECTURE) for key, _, _ in differing):
        line += (
            "\nwarning: the two differ in architecture, so the difference says nothing about what they started from; "
            "give both runs the same --model settings to compare pre-trainings"
        )
    return line
