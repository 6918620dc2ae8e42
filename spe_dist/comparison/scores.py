"""The cells of a comparison that are done, and how each differs from the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spe_dist.comparison.comparison import Column, Comparison
from spe_dist.finetuning.bootstrap import RESAMPLES, PairedTest, holm
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.folder import read_result
from spe_dist.finetuning.predictions import read_run
from spe_dist.finetuning.scored_run import ScoredRun, compare_scored_runs, score_run
from spe_dist.finetuning.tuning import Point, best_trial, read_trial

Cell = tuple[Column, str]  # and the variant
_RESAMPLES_OF_A_DIFFERENCE = 100  # for each of all: so the smallest p-value that there is, corrected, is 0.02


@dataclass(frozen=True)
class ScoredCell:
    """Scores of a variant in a column.

    Args:
        run: on test, of the point with the best score on dev.
        point: its settings; empty without a grid.
        minus: baseline → measure → how this variant differs from it. Baselines without scores are left out.
    """

    run: ScoredRun
    point: Point
    minus: Mapping[str, Mapping[str, PairedTest]]


def score_comparison(comparison: Comparison, *, resamples: int = RESAMPLES) -> dict[Cell, ScoredCell]:
    """Score the cells all of whose seeds are done.

    Large differences are resampled more often where there are so many differences that no p-value would be small after
    correction.

    Raises:
        UserError: seeds have predicted different data.
    """
    scored: dict[Cell, ScoredCell] = {}
    more = max(resamples, _RESAMPLES_OF_A_DIFFERENCE * number_of_differences(comparison))
    for column in comparison.columns:
        runs: dict[str, tuple[ScoredRun, Point]] = {}
        for variant in comparison.config.variants:
            chosen = _chosen(comparison, column, variant)
            if chosen is None:
                continue
            config, point = chosen
            scoring = config.scoring()
            seeds = {one.run.seed for one in config.of_each_seed()}  # an earlier comparison may have trained more
            run = read_run(scoring, Path(config.run_folder)).of_seeds(seeds)
            runs[variant] = score_run(scoring, run, resamples=resamples), point
        for variant, (scored_run, point) in runs.items():
            baselines = [name for name in comparison.baselines[variant] if name in runs]
            minus = {name: _compare(runs[name][0], scored_run, resamples=resamples, more=more) for name in baselines}
            scored[column, variant] = ScoredCell(scored_run, point, minus)
    return scored


def number_of_differences(comparison: Comparison) -> int:
    """Number of differences in the first measure of every column that a complete table reports."""
    pairs = [
        comparison.is_told(variant, name) for variant, baselines in comparison.baselines.items() for name in baselines
    ]
    return sum(pairs) * len(comparison.columns)


def _compare(first: ScoredRun, second: ScoredRun, *, resamples: int, more: int) -> dict[str, PairedTest]:
    """How two runs differ; with more resamples if a p-value comes from fewer than ten on the other side of zero."""
    tests = compare_scored_runs(first, second, resamples=resamples)
    if more > resamples and min(test.p_value for test in tests.values()) < 20 / resamples:
        return compare_scored_runs(first, second, resamples=more)
    return tests


def corrected_p_values(
    comparison: Comparison, scored: Mapping[Cell, ScoredCell]
) -> dict[tuple[Column, str, str], float]:
    """P-values of all differences in the first measure of each column, corrected together (Holm).

    Returns:
        By column, variant and baseline.
    """
    raw = {
        (column, variant, baseline): tests[comparison.config.tasks[column.task].measures[0]].p_value
        for (column, variant), cell in scored.items()
        for baseline, tests in cell.minus.items()
        if comparison.is_told(variant, baseline)
    }
    return dict(zip(raw, holm(list(raw.values())), strict=True))


def _chosen(comparison: Comparison, column: Column, variant: str) -> tuple[FinetuneConfig, Point] | None:
    """The fine-tuning of a cell with the best mean score on dev; None unless all its trials are done."""
    configs, points = comparison.finetunings(column, variant), comparison.points(column.task)
    if any(read_result(seed) is None for config in configs for seed in config.of_each_seed()):
        return None
    trials = [
        read_trial(config, number, point) for number, (config, point) in enumerate(zip(configs, points, strict=True))
    ]
    best = best_trial([trial for trial in trials if trial is not None])
    assert best is not None
    return configs[best.number], best.settings


def seeds_of(scored: Mapping[Cell, ScoredCell]) -> Sequence[int]:
    """The numbers of seeds that there are, rising."""
    return sorted({len(cell.run.seeds) for cell in scored.values()})
