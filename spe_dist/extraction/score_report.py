"""Scores of one run, or of two beside each other: as text for a terminal, as JSON, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from spe_dist.extraction.bootstrap import FEW_SENTENCES, PairedTest
from spe_dist.extraction.scored_run import ScoredRun
from spe_dist.extraction.scoring import MEASURES, MeasureScores

_GROUPINGS = {
    "by_type": "type",
    "by_entities": "entities in the sentence",
    "by_length": "words in the sentence",
    "by_distance": "words between the arguments",
}
_COLORS = ("tab:blue", "tab:orange")
_UNDEFINED = "\N{EN DASH}"  # an F1 where there are no gold facts


def score_text(runs: Sequence[ScoredRun], tests: dict[str, PairedTest] | None = None) -> str:
    """Aligned tables: micro F1s with intervals, then each measure in detail. All in percent.

    Args:
        runs: one, or two on the same data.
        tests: by measure, how the second differs from the first.
    """
    parts = [
        _headline(runs),
        _overview(runs, tests or {}),
        *(_quality(run) for run in runs if any(run.quality.values())),
    ]
    parts += [_details(runs, measure) for measure in MEASURES]
    return "\n\n".join(parts) + "\n"


def score_json(runs: Sequence[ScoredRun], tests: dict[str, PairedTest] | None = None) -> dict[str, Any]:
    """The same for programs, and more: all scores of all seeds, as fractions of 1.

    Args:
        runs: one, or two on the same data.
        tests: by measure, how the second differs from the first.
    """
    return {
        "runs": [
            {
                "name": run.name,
                "sentences": run.sentences,
                "score_quality": {kind: [asdict(one) for one in seeds] for kind, seeds in run.quality.items()},
                "micro_f1": {measure: asdict(estimate) for measure, estimate in run.micro_f1.items()},
                "seeds": {
                    str(seed): {measure: asdict(run.scores[measure][row]) for measure in MEASURES}
                    for row, seed in enumerate(run.seeds)
                },
            }
            for run in runs
        ],
        "second_minus_first": {measure: asdict(test) for measure, test in (tests or {}).items()},
    }


def write_scores(
    folder: Path,
    runs: Sequence[ScoredRun],
    tests: dict[str, PairedTest] | None = None,
    *,
    symmetric: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """Write scores.txt, scores.json and, if matplotlib is there, scores.png.

    Args:
        folder: where they go.
        runs: one, or two on the same data.
        tests: by measure, how the second differs from the first.
        symmetric: types of relations whose direction was not looked at.

    Returns:
        The text of scores.txt, and the names of the files written.

    Raises:
        UserError: the folder cannot be written.
    """
    text = score_text(runs, tests)
    about = json.dumps({"symmetric": list(symmetric), **score_json(runs, tests)}, indent=1)
    files = ["scores.txt", "scores.json"]
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "scores.txt", text.encode())
        write_atomically(folder / "scores.json", (about + "\n").encode())
        if find_spec("matplotlib") is not None:
            draw_scores(runs, folder / "scores.png")
            files.append("scores.png")
    return text, files


def overview_text(run: ScoredRun) -> str:
    """One line: the micro F1s of a run, in percent."""
    estimates = ", ".join(f"{measure} {_micro_f1(run, measure)}" for measure in MEASURES)
    return f"{run.name}: {estimates}"


def draw_scores(runs: Sequence[ScoredRun], path: Path) -> None:
    """Draw micro F1s with their intervals, and F1 by type, sentence and distance with deviations over seeds.

    Args:
        runs: one, or two on the same data.
        path: of the picture; its ending says which kind.

    Raises:
        UserError: matplotlib is not there.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise UserError("drawing needs matplotlib: pip install 'spe_dist[plots]'") from error
    figure = Figure(figsize=(20, 8.5), layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.08))
    axes = figure.subplots(2, 4).ravel()
    _draw_overview(axes[0], runs)
    _draw_groups(axes[1], runs, "entity_f1", "by_type")
    for panel, grouping in zip(axes[2:6], _GROUPINGS, strict=True):
        _draw_groups(panel, runs, "relation_strict_f1", grouping)
    _draw_reliability(axes[6], runs)
    _draw_curves(axes[7], runs)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(runs), frameon=False, fontsize=11
    )
    figure.supxlabel(
        "F1 by group: mean over seeds, whiskers are their standard deviation (none for a single seed); "
        "the number below a group: its gold facts",
        fontsize=9,
    )
    figure.savefig(path, dpi=110)


def _headline(runs: Sequence[ScoredRun]) -> str:
    seeds = "; ".join(f"{run.name}: seeds {', '.join(map(str, run.seeds))}" for run in runs)
    lines = [f"{runs[0].sentences} sentences; {seeds}", "In percent: mean over seeds ± deviation [95 % interval]."]
    if any(len(run.seeds) == 1 for run in runs):
        lines.append("Of a single seed the interval knows other sentences, but not how training anew would change it.")
    return "\n".join(lines)


def _overview(runs: Sequence[ScoredRun], tests: dict[str, PairedTest]) -> str:
    header = ["micro F1", *(run.name for run in runs)]
    rows = [[measure, *(_micro_f1(run, measure) for run in runs)] for measure in MEASURES]
    if tests:
        header += [f"{runs[1].name} - {runs[0].name}", "p"]
        for row in rows:
            test = tests[row[0]]
            defined = _has_gold(runs[0], row[0])
            row += [_estimate(test.difference, "+"), f"{test.p_value:.4f}"] if defined else [_UNDEFINED, _UNDEFINED]
    text = _table(header, rows)
    if tests:
        paired = "equal seeds compared with each other" if tests[MEASURES[0]].paired_seeds else "seeds independent"
        text += f"\n(p: two-sided, paired bootstrap over sentences and seeds; {paired})"
    if runs[0].sentences < FEW_SENTENCES:
        unreliable = "intervals and p-values are" if tests else "intervals are"
        text += f"\n(only {runs[0].sentences} sentences: {unreliable} unreliable below {FEW_SENTENCES})"
    return text


def _quality(run: ScoredRun) -> str:
    """Whether scores can be believed, and what is left at each least score: means over seeds."""
    rows, curves = [], []
    for kind, seeds in run.quality.items():
        if not seeds:
            continue
        rows.append(
            [
                kind,
                f"{np.mean([one.predicted for one in seeds]):.0f}",
                *(
                    f"{np.mean([getattr(one, name) for one in seeds]):.3f}"
                    for name in ("precision", "mean_score", "calibration_error", "auc")
                ),
            ]
        )
        for column, (least, *_) in enumerate(seeds[0].curve):
            precision, recall = np.mean([one.curve[column][1:] for one in seeds], axis=0)
            curves.append([f"{kind}, score >= {least:g}", f"{100 * precision:.1f}", f"{100 * recall:.1f}"])
    header = [f"scores of {run.name}", "predicted", "right", "mean score", "calibration error", "AUC right/wrong"]
    return f"{_table(header, rows)}\n\n{_table(['least score', 'precision', 'recall'], curves)}"


def _has_gold(run: ScoredRun, measure: str) -> bool:
    return run.scores[measure][0].micro.gold > 0


def _micro_f1(run: ScoredRun, measure: str) -> str:
    return _estimate(run.micro_f1[measure], "") if _has_gold(run, measure) else _UNDEFINED


def _details(runs: Sequence[ScoredRun], measure: str) -> str:
    first = runs[0].scores[measure][0]
    parts: list[tuple[str, int, Callable[[MeasureScores], float]]] = [
        ("micro precision", first.micro.gold, lambda scores: scores.micro.precision),
        ("micro recall", first.micro.gold, lambda scores: scores.micro.recall),
        ("micro F1", first.micro.gold, lambda scores: scores.micro.f1),
        ("macro F1", first.micro.gold, lambda scores: scores.macro.f1),
    ]
    rows = []
    for name, gold, value in parts:
        rows.append([name, str(gold), *(_cell([value(one) for one in run.scores[measure]], gold) for run in runs)])
    for grouping, title in _GROUPINGS.items():
        for group, gold in _groups(runs, measure, grouping).items():
            values = (_f1_of_group(run, measure, grouping, group) for run in runs)
            rows.append([f"{title}: {group}", str(gold), *(_cell(of_seeds, gold) for of_seeds in values)])
    return _table([measure, "gold", *(run.name for run in runs)], rows)


def _groups(runs: Sequence[ScoredRun], measure: str, grouping: str) -> dict[str, int]:
    """Groups that any seed of any run has facts in -> number of gold facts; types by name, sizes by size."""
    all_scores = [scores for run in runs for scores in run.scores[measure]]
    found = {name: one.gold for scores in all_scores for name, one in getattr(scores, grouping).items()}
    return dict(sorted(found.items(), key=lambda item: item[0] if grouping == "by_type" else _first_number(item[0])))


def _first_number(group: str) -> int:
    return int(group.rstrip("+").partition("-")[0])


def _f1_of_group(run: ScoredRun, measure: str, grouping: str, group: str) -> list[float]:
    """F1 of each seed; 0 for a seed that has not predicted any of a group without gold facts."""
    found = (getattr(scores, grouping).get(group) for scores in run.scores[measure])
    return [score.f1 if score else 0.0 for score in found]


def _estimate(estimate: Any, sign: str) -> str:
    deviation = "" if estimate.deviation is None else f" ± {100 * estimate.deviation:.1f}"
    low, high = (f"{100 * end:{sign}.1f}" for end in (estimate.low, estimate.high))
    return f"{100 * estimate.mean:{sign}.1f}{deviation} [{low}, {high}]"


def _cell(values: list[float], gold: int) -> str:
    if not gold:
        return _UNDEFINED
    deviation = f" ± {100 * np.std(values, ddof=1):4.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{deviation}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Columns under each other: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        first, *rest = zip(row, widths, strict=True)
        lines.append("  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]))
    return "\n".join(lines)


def _draw_overview(axes: Any, runs: Sequence[ScoredRun]) -> None:
    axes.set_title("micro F1, 95 % intervals; dots are seeds", fontsize=11)
    measures = [measure for measure in MEASURES if _has_gold(runs[0], measure)]
    places = np.arange(len(measures))
    for number, run in enumerate(runs):
        estimates = [run.micro_f1[measure] for measure in measures]
        means = np.array([100 * estimate.mean for estimate in estimates])
        ends = np.array([[100 * estimate.low, 100 * estimate.high] for estimate in estimates]).reshape(-1, 2).T
        at = _bars(axes, places, means, np.abs(ends - means), number, runs)
        for place, measure in zip(at, measures, strict=True):
            f1 = [100 * scores.micro.f1 for scores in run.scores[measure]]
            axes.plot([place] * len(f1), f1, "o", color="black", markersize=3, alpha=0.6)
    axes.set_xticks(places, measures)


def _draw_groups(axes: Any, runs: Sequence[ScoredRun], measure: str, grouping: str) -> None:
    axes.set_title(f"{measure} by {_GROUPINGS[grouping]}", fontsize=11)
    groups = {group: gold for group, gold in _groups(runs, measure, grouping).items() if gold}
    places = np.arange(len(groups))
    for number, run in enumerate(runs):
        f1 = 100 * np.array([_f1_of_group(run, measure, grouping, group) for group in groups])  # [groups, seeds]
        if len(groups):
            deviations = f1.std(1, ddof=1) if len(run.seeds) > 1 else None
            _bars(axes, places, f1.mean(1), deviations, number, runs)
    slanted = {"rotation": 25, "ha": "right"} if grouping == "by_type" and len(groups) > 4 else {}
    axes.set_xticks(places, [f"{group}\n{gold}" for group, gold in groups.items()], fontsize=8, **slanted)


def _draw_reliability(axes: Any, runs: Sequence[ScoredRun]) -> None:
    axes.set_title("are scores what they say? (tenths of the predictions)", fontsize=11)
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    for number, run in enumerate(runs):
        for (kind, seeds), marker in zip(run.quality.items(), ("o", "s"), strict=True):
            points = np.array([point for one in seeds for point in one.bins]).reshape(-1, 2)
            axes.plot(*points.T, marker, color=_COLORS[number], markersize=4, alpha=0.6, label=f"{run.name}: {kind}")
            axes.lines[-1].set_markerfacecolor(_COLORS[number] if kind == "entities" else "none")
    axes.set(xlabel="mean score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=8, frameon=False)


def _draw_curves(axes: Any, runs: Sequence[ScoredRun]) -> None:
    axes.set_title("precision and recall by least score; means over seeds", fontsize=11)
    for number, run in enumerate(runs):
        for (kind, seeds), style in zip(run.quality.items(), ("-", "--"), strict=True):
            if seeds:
                curve = 100 * np.mean([[point[1:] for point in one.curve] for one in seeds], axis=0)
                axes.plot(
                    curve[:, 1], curve[:, 0], style, marker=".", color=_COLORS[number], label=f"{run.name}: {kind}"
                )
    axes.set(xlabel="recall, %", ylabel="precision, %", xlim=(0, 100), ylim=(0, 100))
    axes.legend(fontsize=8, frameon=False)


def _bars(axes: Any, places: Any, heights: Any, errors: Any, number: int, runs: Sequence[ScoredRun]) -> Any:
    """Draw the bars of one run beside those of the others; returns where they are."""
    width = 0.8 / len(runs)
    at = places + (number - (len(runs) - 1) / 2) * width
    axes.bar(at, heights, width * 0.95, yerr=errors, capsize=3, color=_COLORS[number], label=runs[number].name)
    axes.set_ylim(0, 100)
    axes.set_ylabel("F1, %")
    axes.spines[["top", "right"]].set_visible(False)
    return at
