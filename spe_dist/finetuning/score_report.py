"""Scores of one run, or of two beside each other: as text for a terminal, as JSON, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.counted import counted
from data_shards.files import explain_write_errors, write_atomically
from spe_dist.finetuning.bootstrap import PairedTest, few_seeds_note, holm
from spe_dist.finetuning.cases import Cases, cases_text
from spe_dist.finetuning.folder import DEV
from spe_dist.finetuning.predictions import FOLDER, read_run
from spe_dist.finetuning.score_cells import estimate_cell
from spe_dist.finetuning.scored_run import ScoredRun, score_run
from spe_dist.finetuning.scoring import Scoring
from spe_dist.text_table import UNDEFINED, text_table

SCORES = "scores"
COLORS = ("tab:blue", "tab:orange")


def report_run(scoring: Scoring[Any], run: Path) -> tuple[str, str]:
    """Write RUN/scores and RUN/dev/scores.

    Args:
        scoring: scoring of the run's task.
        run: folder of a fine-tuning, of which at least one seed has come to its end.

    Returns:
        What to print: the tables of test, or of dev if there is no test data; and the headline, their measures with
        intervals in one line.

    Raises:
        UserError: seeds predicted different data, or the folder cannot be written.
    """
    name = run.resolve().name
    lines: list[str] = []
    headline = ""
    for part, folder in (("test", run), (DEV, run / DEV)):
        if not (folder / FOLDER).is_dir():
            continue
        scored = score_run(scoring, replace(read_run(scoring, folder), name=f"{name}, {part}"))
        text, files = write_scores(folder / SCORES, [scored])
        lines.append(_one_line(scored) if lines else text)
        headline = headline or _one_line(scored).partition("\n")[0]
        lines.append(f"({', '.join(files)} in {folder / SCORES})")
    return "\n".join(lines), headline


def score_text(
    runs: Sequence[ScoredRun], tests: dict[str, PairedTest] | None = None, cases: Cases | None = None
) -> str:
    """Aligned tables: the measures with intervals, then what the task has to say. All in percent.

    Args:
        runs: one, or two on the same data.
        tests: by measure, how the second differs from the first.
        cases: single items on which they differ.
    """
    parts = [_headline(runs), _overview(runs, tests or {}), *runs[0].scoring.tables(runs)]
    parts += [] if cases is None else [cases_text(cases, runs)]
    return "\n\n".join(parts) + "\n"


def score_json(
    runs: Sequence[ScoredRun], tests: dict[str, PairedTest] | None = None, cases: Cases | None = None
) -> dict[str, Any]:
    """The same for programs, and more: all scores of all seeds, as fractions of 1.

    Args:
        runs: one, or two on the same data.
        tests: by measure, how the second differs from the first.
        cases: single items on which they differ.
    """
    corrected = _corrected(runs, tests or {})
    scoring = runs[0].scoring
    title = scoring.title.lower().replace(" ", "_")
    return scoring.about_json() | {
        "runs": [
            {
                "name": run.name,
                scoring.items: run.items,
                "detectable": run.detectable,
                title: {measure: asdict(estimate) for measure, estimate in run.estimates.items()},
                "seeds": {
                    str(seed): {measure: values[row] for measure, values in run.values.items()}
                    for row, seed in enumerate(run.seeds)
                },
            }
            | scoring.run_json(run)
            for run in runs
        ],
        "second_minus_first": {
            measure: asdict(test) | {"p_value_holm": corrected.get(measure)} for measure, test in (tests or {}).items()
        },
        **({} if cases is None else {"cases": asdict(cases)}),
    }


def write_scores(
    folder: Path, runs: Sequence[ScoredRun], tests: dict[str, PairedTest] | None = None, cases: Cases | None = None
) -> tuple[str, list[str]]:
    """Write scores.txt, scores.json and, if matplotlib is there, scores.png.

    Args:
        folder: where they go.
        runs: one, or two on the same data.
        tests: by measure, how the second differs from the first.
        cases: single items on which they differ.

    Returns:
        The text of scores.txt, and the names of the files written.

    Raises:
        UserError: the folder cannot be written.
    """
    text = score_text(runs, tests, cases)
    files = ["scores.txt", "scores.json"]
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "scores.txt", text.encode())
        write_atomically(folder / "scores.json", (json.dumps(score_json(runs, tests, cases), indent=1) + "\n").encode())
        if find_spec("matplotlib") is not None:
            draw_scores(runs, folder / "scores.png")
            files.append("scores.png")
    return text, files


def _one_line(run: ScoredRun) -> str:
    estimates = ", ".join(f"{measure} {_estimate(run, measure)}" for measure in run.estimates)
    note = few_seeds_note(len(run.seeds)) if len(run.seeds) == 2 else ""
    return f"{run.name}: {estimates}" + (f"\n{note}" if note else "")


def draw_scores(runs: Sequence[ScoredRun], path: Path) -> None:
    """Draw the measures with their intervals, and the panels of the task.

    Args:
        runs: one, or two on the same data.
        path: path of the picture; its ending says which kind.

    Raises:
        ModuleNotFoundError: matplotlib is not there; `spe` says what to install.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    scoring = runs[0].scoring
    panels = [_draw_overview, *scoring.panels()]
    rows = isqrt(len(panels))
    columns = -(-len(panels) // rows)
    figure = Figure(figsize=(5 * columns, 4.25 * rows), layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.08))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for draw, panel in zip(panels, axes, strict=False):
        draw(panel, runs)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(runs), frameon=False, fontsize=11
    )
    figure.supxlabel(scoring.panels_note, fontsize=9)
    figure.savefig(path, dpi=110)


def _headline(runs: Sequence[ScoredRun]) -> str:
    seeds = "; ".join(f"{run.name}: seeds {', '.join(map(str, run.seeds))}" for run in runs)
    lines = [
        f"{runs[0].items} {runs[0].scoring.items}; {seeds}",
        "In percent: mean over seeds ± deviation [95 % interval].",
    ]
    lines += filter(None, map(few_seeds_note, sorted({len(run.seeds) for run in runs})))
    return "\n".join(lines)


def _overview(runs: Sequence[ScoredRun], tests: dict[str, PairedTest]) -> str:
    header = [runs[0].scoring.title, *(run.name for run in runs)]
    rows = [[measure, *(_estimate(run, measure) for run in runs)] for measure in runs[0].estimates]
    if tests:
        header += [f"{runs[1].name} - {runs[0].name}", "p", "p (Holm)"]
        corrected = _corrected(runs, tests)
        for row in rows:
            test, defined = tests[row[0]], row[0] in corrected
            p_values = [f"{test.p_value:.4f}", f"{corrected[row[0]]:.4f}"] if defined else [UNDEFINED, UNDEFINED]
            row += [estimate_cell(test.difference, "+") if defined else UNDEFINED, *p_values]
    text = text_table(header, rows)
    if tests:
        paired = (
            "equal seeds compared with each other" if next(iter(tests.values())).paired_seeds else "seeds independent"
        )
        text += (
            f"\n(p: two-sided, paired bootstrap over {runs[0].scoring.items} and seeds; {paired}; Holm: corrected for "
        )
        text += f"{counted(len(corrected), 'comparison')})"
    text += _power_line(runs, tests)
    if note := runs[0].few_items_note(are_compared=bool(tests)):
        text += f"\n({note})"
    return text


def _corrected(runs: Sequence[ScoredRun], tests: dict[str, PairedTest]) -> dict[str, float]:
    """P-values corrected for their number, of measures that there is something to measure with."""
    compared = [measure for measure in tests if runs[0].is_defined(measure)]
    return dict(zip(compared, holm([tests[measure].p_value for measure in compared]), strict=True))


def _power_line(runs: Sequence[ScoredRun], tests: dict[str, PairedTest]) -> str:
    """What difference could be seen; nothing where a run has a single seed."""
    known = {measure: test.detectable for measure, test in tests.items()} if tests else runs[0].detectable
    points = [
        f"{measure} {100 * value:.1f}"
        for measure, value in known.items()
        if value is not None and runs[0].is_defined(measure)
    ]
    if not points:
        return ""
    seeds = " and ".join(str(len(run.seeds)) for run in runs) if len({len(run.seeds) for run in runs}) > 1 else ""
    items = runs[0].scoring.items
    what = f"With {seeds or len(runs[0].seeds)} seeds and this test set ({runs[0].items} {items}) a difference of "
    what += "this many points can be seen (two-sided .05, power .8): "
    alone = "" if tests else f"; more, where the other run finds other {items} hard"
    return f"\n{what}{', '.join(points)}{alone}"


def _estimate(run: ScoredRun, measure: str) -> str:
    return estimate_cell(run.estimates[measure], "") if run.is_defined(measure) else UNDEFINED


def _draw_overview(axes: Any, runs: Sequence[ScoredRun]) -> None:
    axes.set_title(f"{runs[0].scoring.title}, 95 % intervals; dots are seeds", fontsize=11)
    measures = [measure for measure in runs[0].estimates if runs[0].is_defined(measure)]
    places = np.arange(len(measures))
    for number, run in enumerate(runs):
        estimates = [run.estimates[measure] for measure in measures]
        means = np.array([100 * estimate.mean for estimate in estimates])
        ends = np.array([[100 * estimate.low, 100 * estimate.high] for estimate in estimates]).reshape(-1, 2).T
        at = draw_bars(axes, places, means, np.abs(ends - means), number, runs)
        for place, measure in zip(at, measures, strict=True):
            values = [100 * value for value in run.values[measure]]
            axes.plot([place] * len(values), values, "o", color="black", markersize=3, alpha=0.6)
    axes.set_xticks(places, measures)


def draw_bars(axes: Any, places: Any, heights: Any, errors: Any, number: int, runs: Sequence[ScoredRun]) -> Any:
    """Draw the bars of one run beside those of the others; returns where they are."""
    width = 0.8 / len(runs)
    at = places + (number - (len(runs) - 1) / 2) * width
    axes.bar(at, heights, width * 0.95, yerr=errors, capsize=3, color=COLORS[number], label=runs[number].name)
    axes.set_ylim(0, 100)
    axes.set_ylabel("%")
    axes.spines[["top", "right"]].set_visible(False)
    return at
