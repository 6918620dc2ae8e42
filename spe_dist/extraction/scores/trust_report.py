"""What stands beside the F1s of a run: whether its scores can be believed, false relations, and rules on types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spe_dist.extraction.scores.false_relations import RelatedShare
from spe_dist.extraction.scores.score_quality import THRESHOLDS, ScoreQuality
from spe_dist.extraction.scores.scoring import RELATION_MEASURES
from spe_dist.finetuning.score_cells import estimate_cell, mean_or_none, percent, seeds_cell
from spe_dist.finetuning.score_report import COLORS
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.text_table import UNDEFINED, text_table

_RULES = {
    "majority": "one-line rule: types related more often than not",
    "best": "best rule: types with the best F1 in training",
}


def trust_parts(run: ScoredRun) -> list[str]:
    """Tables of a run, those of which there is something to say. Numbers are means over seeds."""
    parts = [_rules(run)] if run.details.rules and run.is_defined(RELATION_MEASURES[0]) else []
    if any(run.details.quality.values()):
        parts += [_quality(run), _by_least_score(run)]
    return parts


def _rules(run: ScoredRun) -> str:
    header = [f"relations of {run.name}'s entities by types alone", *RELATION_MEASURES, f"{run.name} - rule, strict"]
    rows = [
        [_RULES[name], *(seeds_cell(of.f1[measure]) for measure in RELATION_MEASURES), _better(of.run_minus_rule)]
        for name, of in run.details.rules.items()
    ]
    text = text_table(header, rows)
    if any(of.run_minus_rule[RELATION_MEASURES[1]].difference.mean <= 0 for of in run.details.rules.values()):
        text += f"\nwarning: the relations of {run.name} are not better than a rule that looks at types alone"
    return text


def _better(tests: dict[str, Any]) -> str:
    return estimate_cell(tests[RELATION_MEASURES[1]].difference, "+")


def _quality(run: ScoredRun) -> str:
    rows = []
    for kind, seeds in run.details.quality.items():
        if seeds:
            means = [mean_or_none([getattr(one, name) for one in seeds]) for name in ("precision", "mean_score")]
            rest = [mean_or_none([getattr(one, name) for one in seeds]) for name in ("calibration_error", "auc")]
            predicted = f"{np.mean([one.predicted for one in seeds]):.0f}"
            cells = (UNDEFINED if value is None else f"{value:.3f}" for value in rest)
            rows.append([kind, predicted, *map(percent, means), *cells])
    header = [f"scores of {run.name}", "predicted", "precision", "mean score", "calibration error (ECE)", "AUC"]
    return (
        f"{text_table(header, rows)}\n(ECE: mean distance between the score and the share of right predictions, 0 is "
        "best; AUC: chance that a right one has a higher score than a wrong one, 0.5 is none)"
    )


def _by_least_score(run: ScoredRun) -> str:
    """Precision, recall and false relations if predictions below a score are left out."""
    header = ["least score", "entities: precision", "recall", "relations: precision", "recall"]
    unrelated = run.details.false_relations
    header += ["false relations", "strict"] if unrelated else []
    rows = []
    for column, least in enumerate(THRESHOLDS):
        row = [f"{least:g}"]
        for kind in ("entities", "relations"):
            row += _precision_recall(run.details.quality[kind], column)
        shares = [one.curve[column] for one in unrelated]
        row += [_mean(shares, "rate"), _mean(shares, "strict_rate")] if unrelated else []
        rows.append(row)
    text = text_table(header, rows)
    if not unrelated:
        return text
    first = unrelated[0]
    return (
        f"{text}\n(false relations: share of the {first.pairs:,} pairs of gold entities without a relation that get "
        f"one; strict: of the {first.strict_pairs:,} in sentences without any relation)\n{false_relations_line(run)}"
    )


def false_relations_line(run: ScoredRun) -> str:
    """The rate at 90 % of the recall, as a sentence."""
    shares = [one.at_kept_recall for one in run.details.false_relations if one.at_kept_recall is not None]
    if not shares:
        return "No correct relation is found, so false relations cannot be set against recall."
    return (
        f"At 90 % of the recall without a threshold (score >= {_mean_score(shares)}, recall "
        f"{_mean(shares, 'recall')} %), {_mean(shares, 'rate')} % of the unrelated pairs get a relation (strict: "
        f"{_mean(shares, 'strict_rate')} %)."
    )


def _mean_score(shares: list[RelatedShare]) -> str:
    return f"{np.mean([share.least_score for share in shares]):.2f}"


def _mean(shares: list[RelatedShare], name: str) -> str:
    return percent(mean_or_none([getattr(share, name) for share in shares]))


def _precision_recall(seeds: list[ScoreQuality], column: int) -> list[str]:
    if not seeds:
        return [UNDEFINED, UNDEFINED]
    precision, recall = np.mean([one.curve[column][1:] for one in seeds], axis=0)
    return [percent(precision), percent(recall)]


def draw_reliability(axes: Any, runs: Sequence[ScoredRun]) -> None:
    """Share of right predictions by score.

    Args:
        axes: axes of matplotlib.
        runs: one, or two on the same data.
    """
    axes.set_title("calibration of scores (tenths of the predictions)", fontsize=11)
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    for run, color in zip(runs, COLORS, strict=False):
        for (kind, seeds), marker in zip(run.details.quality.items(), ("o", "s"), strict=True):
            if seeds:
                errors = mean_or_none([one.calibration_error for one in seeds])
                points = np.array([point for one in seeds for point in one.bins]).reshape(-1, 2)
                face = color if kind == "entities" else "none"
                label = f"{run.name}: {kind}, ECE {errors:.3f}"
                axes.plot(*points.T, marker, color=color, markersize=4, alpha=0.6, label=label, markerfacecolor=face)
    axes.set(xlabel="mean score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    _legend(axes)


def draw_curves(axes: Any, runs: Sequence[ScoredRun]) -> None:
    """Precision and false relations against recall, each point a least score.

    Args:
        axes: axes of matplotlib.
        runs: one, or two on the same data.
    """
    axes.set_title("precision and false relations by score threshold", fontsize=11)
    for run, color in zip(runs, COLORS, strict=False):
        for (kind, seeds), style in zip(run.details.quality.items(), ("-", "--"), strict=True):
            if seeds:
                curve = 100 * np.mean([[point[1:] for point in one.curve] for one in seeds], axis=0)
                _curve(axes, curve[:, 1], curve[:, 0], style, color, f"{run.name}: {kind}")
        shares = np.array(
            [[(point.recall, point.rate) for point in one.curve] for one in run.details.false_relations],
            dtype=np.float64,
        )  # [seeds, least scores, 2]; nan where there is nothing to take a share of
        if len(shares) and np.isfinite(shares).all():
            false = 100 * shares.mean(0)
            _curve(axes, false[:, 0], false[:, 1], ":", color, f"{run.name}: unrelated pairs that get a relation")
    axes.set(xlabel="recall, %", ylabel="precision, or share of unrelated pairs, %", xlim=(0, 100), ylim=(0, 100))
    _legend(axes)


def _curve(axes: Any, across: Any, up: Any, style: str, color: str, label: str) -> None:
    axes.plot(across, up, style, marker=".", color=color, label=label)


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)
