"""Scores by type, sentence and distance: as a table, and F1 as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from spe_dist.extraction.scores.scoring import MacroScore, MeasureScores, Score
from spe_dist.finetuning.score_cells import seeds_cell
from spe_dist.finetuning.score_report import draw_bars
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.text_table import UNDEFINED, text_table

GROUPINGS = {
    "by_type": "type",
    "by_entities": "entities in the sentence",
    "by_relations": "relations in the sentence",
    "by_length": "words in the sentence",
    "by_distance": "words between the arguments",
}
_PARTS = {"precision": "precision", "recall": "recall", "F1": "f1"}


def group_table(runs: Sequence[ScoredRun], measure: str) -> str:
    """Precision, recall and F1 of a measure: micro, macro, and by type, sentence and distance.

    Args:
        runs: one, or two on the same data.
        measure: one of `MEASURES`.
    """
    gold = runs[0].details.scores[measure][0].micro.gold
    rows = [[name, gold, *_cells(runs, gold, measure, attrgetter(name))] for name in ("micro", "macro")]
    for grouping, title in GROUPINGS.items():
        for group, gold in _groups(runs, measure, grouping).items():
            cells = _cells(runs, gold, measure, partial(_score_of_group, grouping=grouping, group=group))
            rows.append([f"{title}: {group}", gold, *cells])
    of = [f"{run.name}, " if len(runs) > 1 else "" for run in runs]
    return text_table([measure, "gold", *(f"{name}{part}" for name in of for part in _PARTS)], rows)


def _groups(runs: Sequence[ScoredRun], measure: str, grouping: str) -> dict[str, int]:
    """Groups that any seed of any run has facts in -> number of gold facts; types by name, sizes by size."""
    all_scores = [scores for run in runs for scores in run.details.scores[measure]]
    found = {name: one.gold for scores in all_scores for name, one in getattr(scores, grouping).items()}
    return dict(sorted(found.items(), key=lambda item: item[0] if grouping == "by_type" else _first_number(item[0])))


def _first_number(group: str) -> int:
    return int(group.rstrip("+").partition("-")[0])


def _score_of_group(scores: MeasureScores, *, grouping: str, group: str) -> Score:
    """The score of a seed; 0 if it has not predicted any of a group without gold facts."""
    return getattr(scores, grouping).get(group, Score(0.0, 0.0, 0.0, 0, 0, 0))


def _cells(
    runs: Sequence[ScoredRun], gold: int, measure: str, score_of: Callable[[MeasureScores], Score | MacroScore]
) -> list[str]:
    """Precision, recall and F1 of each run."""
    of_runs = [[score_of(scores) for scores in run.details.scores[measure]] for run in runs]
    return [
        seeds_cell([getattr(one, name) for one in of_seeds]) if gold else UNDEFINED
        for of_seeds in of_runs
        for name in _PARTS.values()
    ]


def draw_groups(axes: Any, runs: Sequence[ScoredRun], *, measure: str, grouping: str) -> None:
    """Draw F1 by group, with deviations over seeds.

    Args:
        axes: axes of matplotlib.
        runs: one, or two on the same data.
        measure: one of `MEASURES`.
        grouping: one of `GROUPINGS`.
    """
    axes.set_title(f"{measure} by {GROUPINGS[grouping]}", fontsize=11)
    groups = {group: gold for group, gold in _groups(runs, measure, grouping).items() if gold}
    places = np.arange(len(groups))
    for number, run in enumerate(runs):
        seeds = run.details.scores[measure]
        f1 = 100 * np.array(
            [[_score_of_group(seed, grouping=grouping, group=group).f1 for seed in seeds] for group in groups]
        )  # [groups, seeds]
        if len(groups):
            deviations = f1.std(1, ddof=1) if len(run.seeds) > 1 else None
            draw_bars(axes, places, f1.mean(1), deviations, number, runs)
    slanted = {"rotation": 25, "ha": "right"} if grouping == "by_type" and len(groups) > 4 else {}
    axes.set_xticks(places, [f"{group}\n{gold}" for group, gold in groups.items()], fontsize=8, **slanted)
