"""The scores of all seeds of a run, how sure they are, and how two runs differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_shards.errors import UserError
from spe_dist.finetuning.bootstrap import (
    FEW_SENTENCES,
    RESAMPLES,
    Estimate,
    PairedTest,
    compare,
    detectable_difference,
    estimate,
)
from spe_dist.finetuning.measures import Contributions
from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.finetuning.scoring import Item, Scoring


@dataclass(frozen=True)
class ScoredRun:
    """Scores of the seeds of a run.

    Args:
        scoring: scoring of its task.
        name: name of the run.
        seeds: in rising order.
        items: how many there are in the test data.
        contributions: measure → [seeds, units, columns]; a unit is what is resampled: an item, or a group of them.
        values: measure → of each seed.
        estimates: measure → the mean over seeds and its interval.
        detectable: measure → by how much two such runs must differ to be told apart; None of a single seed.
        details: what the task knows of the run beside.
    """

    scoring: Scoring[Any]
    name: str
    seeds: tuple[int, ...]
    items: int
    contributions: dict[str, Contributions]
    values: dict[str, list[float]]
    estimates: dict[str, Estimate]
    detectable: dict[str, float | None]
    details: Any

    def few_items_note(self, *, are_compared: bool) -> str:
        """What must be said of intervals from so few resampled units; empty of enough."""
        units = next(iter(self.contributions.values())).shape[1]
        if units >= FEW_SENTENCES:
            return ""
        items = self.scoring.items
        few = f"{units} {items}" if units == self.items else f"{units} groups of {items} that are resampled together"
        unreliable = "intervals and p-values are" if are_compared else "intervals are"
        return f"only {few}: {unreliable} unreliable below {FEW_SENTENCES}"

    def is_defined(self, measure: str) -> bool:
        """Whether the gold data hold anything that the measure is a share of."""
        return self.scoring.is_defined(measure, self.contributions[measure][0].sum(0))


def score_run(scoring: Scoring[Item], run: RunPredictions[Item], *, resamples: int = RESAMPLES) -> ScoredRun:
    """Score every seed of a run.

    Args:
        scoring: scoring of its task.
        run: gold and predicted items.
        resamples: resamples of the bootstrap.

    Raises:
        UserError: a seed has predicted other items than the gold ones, or there are no gold ones.
    """
    if not run.gold:
        raise UserError(f"{run.name} has no {scoring.items} in its gold data: there is nothing to score")
    of_seeds = []
    for seed, predicted in run.by_seed.items():
        try:
            of_seeds.append(scoring.contributions(run.gold, predicted))
        except UserError as error:
            raise UserError(f"seed {seed} of {run.name}: {error}") from error
    stacked = {measure: np.stack([one[measure] for one in of_seeds]) for measure in scoring.measures}
    with_measures = [(name, rows, scoring.measures[name]) for name, rows in stacked.items()]
    return ScoredRun(
        scoring,
        run.name,
        tuple(run.by_seed),
        len(run.gold),
        stacked,
        {name: measure(rows.sum(1)).tolist() for name, rows, measure in with_measures},
        {name: estimate(rows, measure, resamples=resamples) for name, rows, measure in with_measures},
        {name: detectable_difference(rows, measure) for name, rows, measure in with_measures},
        scoring.details(run, stacked, resamples),
    )


def compare_scored_runs(first: ScoredRun, second: ScoredRun, *, resamples: int = RESAMPLES) -> dict[str, PairedTest]:
    """How two runs on the same data differ, by measure: second minus first.

    Seeds are compared one to one if both runs have the same ones.
    """
    paired = first.seeds == second.seeds
    return {
        name: compare(
            first.contributions[name], second.contributions[name], measure, paired_seeds=paired, resamples=resamples
        )
        for name, measure in first.scoring.measures.items()
    }
