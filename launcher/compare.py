"""`spe compare RUN_A RUN_B`: the scores of two fine-tuned runs on the same data, and whether they differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from data_shards.errors import UserError
from spe_dist.extraction.bootstrap import RESAMPLES
from spe_dist.extraction.predictions import read_run
from spe_dist.extraction.score_report import score_text, write_scores
from spe_dist.extraction.scored_run import check_same_gold, compare_scored_runs, score_run


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
    command = tyro.cli(Compare, prog="spe compare", description=__doc__, args=argv)
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
        print(score_text(scored, tests), end="")
        return
    text, files = write_scores(command.out, scored, tests, symmetric=command.symmetric)
    print(f"{text}\nwrote {', '.join(files)} to {command.out}")


def _check_known_types(symmetric: tuple[str, ...], known: set[str]) -> None:
    for name in symmetric:
        if name not in known:
            raise UserError(f"--symmetric {name}: the gold data have no such relations, but {', '.join(sorted(known))}")
