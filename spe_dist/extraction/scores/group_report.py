"""F1 by type, sentence and distance: as a table, and as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spe_dist.extraction.scores.scoring import MeasureScores
from spe_dist.finetuning.score_cells import seeds_cell
from spe_dist.finetuning.score_report import draw_bars
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.text_table import UNDEFINED, text_table

GROUPINGS = {
    "by_type": "type",
    "by_entities": "entities in the sentence",
    "by_length": "words in the sentence",
    "by_distance": "words between the arguments",
}


def group_table(runs: Sequence[ScoredRun], measure: str) -> str:
    """Precision, recall and F1 of a measure, and F1 by type, sentence and distance.

    Args:
        runs: one, or two on the same data.
        measure: one of `MEASURES`.
    """
    first = runs[0].details.scores[measure][0]
    parts: list[tuple[str, int, Callable[[MeasureScores], float]]] = [
        ("micro precision", first.micro.gold, lambda scores: scores.micro.precision),
        ("micro recall", first.micro.gold, lambda scores: scores.micro.recall),
        ("micro F1", first.micro.gold, lambda scores: scores.micro.f1),
        ("macro F1", first.micro.gold, lambda scores: scores.macro.f1),
    ]
    rows = []
    for name, gold, value in parts:
        rows.append(
            [name, str(gold), *(_cell([value(one) for one in run.details.scores[measure]], gold) for run in runs)]
        )
    for grouping, title in GROUPINGS.items():
        for group, gold in _groups(runs, measure, grouping).items():
            values = (_f1_of_group(run, measure, grouping, group) for run in runs)
            rows.append([f"{title}: {group}", str(gold), *(_cell(of_seeds, gold) for of_seeds in values)])
    return text_table([measure, "gold", *(run.name for run in runs)], rows)


def _groups(runs: Sequence[ScoredRun], measure: str, grouping: str) -> dict[str, int]:
    """Groups that any seed of any run has facts in -> number of gold facts; types by name, sizes by size."""
    all_scores = [scores for run in runs for scores in run.details.scores[measure]]
    found = {name: one.gold for scores in all_scores for name, one in getattr(scores, grouping).items()}
    return dict(sorted(found.items(), key=lambda item: item[0] if grouping == "by_type" else _first_number(item[0])))


def _first_number(group: str) -> int:
    return int(group.rstrip("+").partition("-")[0])


def _f1_of_group(run: ScoredRun, measure: str, grouping: str, group: str) -> list[float]:
    """F1 of each seed; 0 for a seed that has not predicted any of a group without gold facts."""
    found = (getattr(scores, grouping).get(group) for scores in run.details.scores[measure])
    return [score.f1 if score else 0.0 for score in found]


def _cell(values: list[float], gold: int) -> str:
    return seeds_cell(values) if gold else UNDEFINED


def draw_groups(axes: Any, runs: Sequence[ScoredRun], *, measure: str, grouping: str) -> None:
    """Draw F1 by group, with deviations over seeds.

    Args:
        axes: of matplotlib.
        runs: one, or two on the same data.
        measure: one of `MEASURES`.
        grouping: one of `GROUPINGS`.
    """
    axes.set_title(f"{measure} by {GROUPINGS[grouping]}", fontsize=11)
    groups = {group: gold for group, gold in _groups(runs, measure, grouping).items() if gold}
    places = np.arange(len(groups))
    for number, run in enumerate(runs):
        f1 = 100 * np.array([_f1_of_group(run, measure, grouping, group) for group in groups])  # [groups, seeds]
        if len(groups):
            deviations = f1.std(1, ddof=1) if len(run.seeds) > 1 else None
            draw_bars(axes, places, f1.mean(1), deviations, number, runs)
    slanted = {"rotation": 25, "ha": "right"} if grouping == "by_type" and len(groups) > 4 else {}
    axes.set_xticks(places, [f"{group}\n{gold}" for group, gold in groups.items()], fontsize=8, **slanted)
