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
from spe_dist.extraction.scores.scoring import MEASURES, MeasureScores
from spe_dist.extraction.scores.trust_report import draw_curves, draw_reliability, trust_parts
from spe_dist.finetuning.bootstrap import FEW_SENTENCES, PairedTest, few_seeds_note, holm
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.text_table import UNDEFINED, estimate_cell, seeds_cell, text_table

_GROUPINGS = {
    "by_type": "type",
    "by_entities": "entities in the sentence",
    "by_length": "words in the sentence",
    "by_distance": "words between the arguments",
}
_COLORS = ("tab:blue", "tab:orange")


def score_text(runs: Sequence[ScoredRun], tests: dict[str, PairedTest] | None = None) -> str:
    """Aligned tables: micro F1s with intervals, then each measure in detail. All in percent.

    Args:
        runs: one, or two on the same data.
        tests: by measure, how the second differs from the first.
    """
    parts = [_headline(runs), _overview(runs, tests or {}), *(part for run in runs for part in trust_parts(run))]
    parts += [_details(runs, measure) for measure in MEASURES]
    return "\n\n".join(parts) + "\n"


def score_json(runs: Sequence[ScoredRun], tests: dict[str, PairedTest] | None = None) -> dict[str, Any]:
    """The same for programs, and more: all scores of all seeds, as fractions of 1.

    Args:
        runs: one, or two on the same data.
        tests: by measure, how the second differs from the first.
    """
    corrected = _corrected(runs, tests or {})
    return {
        "runs": [
            {
                "name": run.name,
                "sentences": run.sentences,
                "score_quality": {kind: [asdict(one) for one in seeds] for kind, seeds in run.quality.items()},
                "false_relations": [asdict(one) for one in run.false_relations],
                "rules": {rule: asdict(of) for rule, of in run.rules.items()},
                "detectable": run.detectable,
                "micro_f1": {measure: asdict(estimate) for measure, estimate in run.micro_f1.items()},
                "seeds": {
                    str(seed): {measure: asdict(run.scores[measure][row]) for measure in MEASURES}
                    for row, seed in enumerate(run.seeds)
                },
            }
            for run in runs
        ],
        "second_minus_first": {
            measure: asdict(test) | {"p_value_holm": corrected.get(measure)} for measure, test in (tests or {}).items()
        },
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
    note = few_seeds_note(len(run.seeds)) if len(run.seeds) == 2 else ""
    return f"{run.name}: {estimates}" + (f"\n{note}" if note else "")


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
    colored = list(zip(runs, _COLORS, strict=False))
    draw_reliability(axes[6], colored)
    draw_curves(axes[7], colored)
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
    lines += filter(None, map(few_seeds_note, sorted({len(run.seeds) for run in runs})))
    return "\n".join(lines)


def _overview(runs: Sequence[ScoredRun], tests: dict[str, PairedTest]) -> str:
    header = ["micro F1", *(run.name for run in runs)]
    rows = [[measure, *(_micro_f1(run, measure) for run in runs)] for measure in MEASURES]
    if tests:
        header += [f"{runs[1].name} - {runs[0].name}", "p", "p (Holm)"]
        corrected = _corrected(runs, tests)
        for row in rows:
            test, defined = tests[row[0]], row[0] in corrected
            p_values = [f"{test.p_value:.4f}", f"{corrected[row[0]]:.4f}"] if defined else [UNDEFINED, UNDEFINED]
            row += [estimate_cell(test.difference, "+") if defined else UNDEFINED, *p_values]
    text = text_table(header, rows)
    if tests:
        paired = "equal seeds compared with each other" if tests[MEASURES[0]].paired_seeds else "seeds independent"
        text += f"\n(p: two-sided, paired bootstrap over sentences and seeds; {paired}; Holm: corrected for "
        text += f"{len(corrected)} comparisons)" if len(corrected) > 1 else "1 comparison)"
    text += _power_line(runs, tests)
    if runs[0].sentences < FEW_SENTENCES:
        unreliable = "intervals and p-values are" if tests else "intervals are"
        text += f"\n(only {runs[0].sentences} sentences: {unreliable} unreliable below {FEW_SENTENCES})"
    return text


def _corrected(runs: Sequence[ScoredRun], tests: dict[str, PairedTest]) -> dict[str, float]:
    """P-values corrected for their number, of measures that there is something to measure with."""
    compared = [measure for measure in tests if _has_gold(runs[0], measure)]
    return dict(zip(compared, holm([tests[measure].p_value for measure in compared]), strict=True))


def _power_line(runs: Sequence[ScoredRun], tests: dict[str, PairedTest]) -> str:
    """What difference could be seen; nothing where a run has a single seed."""
    known = {measure: test.detectable for measure, test in tests.items()} if tests else runs[0].detectable
    points = [
        f"{measure} {100 * value:.1f}"
        for measure, value in known.items()
        if value is not None and _has_gold(runs[0], measure)
    ]
    if not points:
        return ""
    seeds = " and ".join(str(len(run.seeds)) for run in runs) if len({len(run.seeds) for run in runs}) > 1 else ""
    what = (
        f"With {seeds or len(runs[0].seeds)} seeds and this test set ({runs[0].sentences} sentences) a difference of "
    )
    what += "this many points can be seen (two-sided .05, power .8): "
    alone = "" if tests else "; more, where the other run finds other sentences hard"
    return f"\n{what}{', '.join(points)}{alone}"


def _has_gold(run: ScoredRun, measure: str) -> bool:
    return run.scores[measure][0].micro.gold > 0


def _micro_f1(run: ScoredRun, measure: str) -> str:
    return estimate_cell(run.micro_f1[measure], "") if _has_gold(run, measure) else UNDEFINED


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
    return text_table([measure, "gold", *(run.name for run in runs)], rows)


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


def _cell(values: list[float], gold: int) -> str:
    return seeds_cell(values) if gold else UNDEFINED


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


def _bars(axes: Any, places: Any, heights: Any, errors: Any, number: int, runs: Sequence[ScoredRun]) -> Any:
    """Draw the bars of one run beside those of the others; returns where they are."""
    width = 0.8 / len(runs)
    at = places + (number - (len(runs) - 1) / 2) * width
    axes.bar(at, heights, width * 0.95, yerr=errors, capsize=3, color=_COLORS[number], label=runs[number].name)
    axes.set_ylim(0, 100)
    axes.set_ylabel("F1, %")
    axes.spines[["top", "right"]].set_visible(False)
    return at
