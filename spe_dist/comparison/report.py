"""The table of a comparison: as Markdown, for programs, and as a picture of the differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_shards.counted import counted
from spe_dist.comparison.comparison import Column, Comparison, budget_text
from spe_dist.comparison.config import ComparisonConfig, PaperConfig
from spe_dist.comparison.scores import Cell, ScoredCell, corrected_p_values, seeds_of
from spe_dist.config import Config
from spe_dist.finetuning.bootstrap import PairedTest, few_seeds_note
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.score_cells import seeds_cell
from spe_dist.text_table import UNDEFINED, markdown_table
from spe_dist.versions import package_versions, this_machine


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a pre-training has cost; None: not known.

    Args:
        hours: hours of training.
        steps: that were taken.
        records: of these steps.
        pieces: pieces of the sequences that the encoder has seen, prefixes and repeated views included.
        petaflops: petaflops of the model.
    """

    hours: float
    steps: int | None = None
    records: int | None = None
    pieces: int | None = None
    petaflops: float | None = None


def comparison_table(
    comparison: Comparison, trained: Mapping[str, Trained | None], scored: Mapping[Cell, ScoredCell]
) -> str:
    """What the pre-trainings cost, then a table of each task and share of its training data.

    Args:
        comparison: all of it.
        trained: by variant; None of those without pre-training.
        scored: cells that are done.
    """
    corrected = corrected_p_values(comparison, scored)
    parts = [_about(comparison), _costs(comparison, trained)]
    for column in comparison.columns:
        done = [variant for variant in comparison.config.variants if (column, variant) in scored]
        if done:
            parts += [
                f"## {column.title}",
                _facts(comparison, column, scored),
                _scores(comparison, column, done, scored, corrected),
            ]
    if corrected:
        parts.append(
            f"p: two-sided, paired bootstrap over test items and seeds. p (Holm): corrected for all "
            f"{counted(len(corrected), 'difference')} on this page in the first measure of each task; "
            "others are not tested."
        )
    parts += [note for seeds in seeds_of(scored) if (note := few_seeds_note(seeds))]
    return "\n\n".join(parts) + "\n"


def comparison_json(
    comparison: Comparison, trained: Mapping[str, Trained | None], scored: Mapping[Cell, ScoredCell]
) -> dict[str, Any]:
    """The same for programs; scores and differences as fractions of 1."""
    corrected = corrected_p_values(comparison, scored)
    return {
        "machine": this_machine(),
        "packages": package_versions(),
        "pretraining": {name: None if cost is None else asdict(cost) for name, cost in trained.items()},
        "cells": [
            {
                "task": column.task,
                "fraction": column.fraction,
                "variant": variant,
                "settings": dict(cell.point),
                "scores": {
                    measure: {"seeds": dict(zip(cell.run.seeds, cell.run.values[measure], strict=True))}
                    | asdict(cell.run.estimates[measure])
                    for measure in comparison.config.tasks[column.task].measures
                },
                "minus": {
                    baseline: {
                        measure: asdict(tests[measure])
                        | ({"p_value_holm": corrected.get((column, variant, baseline))} if place == 0 else {})
                        for place, measure in enumerate(comparison.config.tasks[column.task].measures)
                    }
                    for baseline, tests in cell.minus.items()
                },
            }
            for (column, variant), cell in scored.items()
        ],
        "papers": _papers_json(comparison.config),
    }


def _papers_json(config: ComparisonConfig) -> list[dict[str, Any]]:
    """Every figure of a paper with its source; `cited` says whether nothing was run for its row."""
    titles = {name: variant.title for name, variant in config.variants.items()} | config.cited
    return [
        {"task": paper.task, "fraction": fraction, "row": row, "title": titles[row], "cited": row in config.cited}
        | {"measure": measure, "score": figure / 100, "source": paper.source}
        for paper in config.papers
        if paper.task in config.tasks  # of those that are run
        for measure, rows in paper.figures.items()
        for row, figures in rows.items()
        if row in titles
        for fraction, figure in zip(paper.beside, figures, strict=True)
        if figure is not None
    ]


def draw_comparison(comparison: Comparison, scored: Mapping[Cell, ScoredCell], path: Path) -> None:
    """Draw the differences to the first baseline with their 95 % intervals, a panel for each column and measure.

    Args:
        comparison: all of it.
        scored: cells that are done.
        path: path of the picture.
    """
    from matplotlib.figure import Figure

    baseline = comparison.config.baselines[0]
    panels = [
        (column, measure, rows)
        for column in comparison.columns
        for measure in comparison.config.tasks[column.task].measures
        if (rows := _differences(comparison, column, measure, baseline, scored))
    ]
    if not panels:
        return
    columns = min(3, len(panels))
    rows_of_panels = -(-len(panels) // columns)
    tallest = max(len(rows) for _, _, rows in panels)
    figure = Figure(figsize=(4.6 * columns, (0.32 * tallest + 1.2) * rows_of_panels), layout="constrained")
    axes = figure.subplots(rows_of_panels, columns, squeeze=False).ravel()
    for panel, (column, measure, rows) in zip(axes, panels, strict=False):
        places = range(len(rows))
        for place, (_, test) in zip(places, rows, strict=True):
            low, mean, high = (
                100 * value for value in (test.difference.low, test.difference.mean, test.difference.high)
            )
            panel.plot([low, high], [place, place], color="tab:blue")
            panel.plot(mean, place, "o", color="tab:blue")
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_yticks(list(places), [title for title, _ in rows])
        panel.invert_yaxis()
        panel.set_title(f"{column.title}: {measure}", fontsize=10)
        panel.set_xlabel("points", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    figure.suptitle(f"Difference to {comparison.config.variants[baseline].title}, 95 % intervals", fontsize=11)
    figure.savefig(path, dpi=110)


def _about(comparison: Comparison) -> str:
    config = comparison.config
    reference = next((run for run in comparison.pretrainings.values() if isinstance(run, Config)), None)
    encoder = ""
    if reference is not None:
        sizes = reference.encoder
        name = (
            Path(sizes.name_or_path).name
            if sizes.name_or_path
            else f"new, {sizes.layers} layers of {sizes.hidden_size}"
        )
        encoder = f" Encoder: {name}."
    by_epochs = [
        config.variants[name].title for name, run in comparison.pretrainings.items() if isinstance(run, FinetuneConfig)
    ]
    beside = f" ({', '.join(by_epochs)}: the epochs of its recipe)" if config.budget and by_epochs else ""
    tuned = any(task.grid for task in config.tasks.values())
    return (
        f"{config.about} Every pre-training: {budget_text(config.budget)}{beside}.{encoder} Every fine-tuning of a "
        f"task has the same architecture and settings{', tuned on dev over the same grid for each' if tuned else ''}; "
        f"{counted(config.seeds, 'seed')}. In percent: mean ± deviation over seeds; "
        "differences with 95 % intervals."
    ).strip()


def _costs(comparison: Comparison, trained: Mapping[str, Trained | None]) -> str:
    rows = []
    for name, variant in comparison.config.variants.items():
        cost = trained.get(name)
        cells = [""] * 5
        if cost is not None:
            pieces = None if cost.pieces is None else cost.pieces / 1e6
            numbers = ((cost.steps, ",d"), (cost.records, ",d"), (pieces, ".2f"), (cost.petaflops, ".3g"))
            cells = ["" if number is None else format(number, form) for number, form in (*numbers, (cost.hours, ".2f"))]
        rows.append([variant.title, *cells])
    return markdown_table(["pre-training", "steps", "records", "million pieces", "PFLOP", "hours"], rows)


def _facts(comparison: Comparison, column: Column, scored: Mapping[Cell, ScoredCell]) -> str:
    """How large the test data are, and which difference could be seen."""
    cells = [cell for (of, _), cell in scored.items() if of == column]
    run = cells[0].run
    measures = comparison.config.tasks[column.task].measures
    seen = [
        f"{measure} {100 * max(found):.1f}"
        for measure in measures
        if (found := [
            tests[measure].detectable or 0.0 for cell in cells for tests in cell.minus.values()
            if tests[measure].detectable is not None
        ])
    ]  # fmt: skip
    power = (
        f" A difference of this many points can be seen (two-sided .05, power .8): {', '.join(seen)}." if seen else ""
    )
    note = run.few_items_note(are_compared=any(cell.minus for cell in cells))
    few = f" {note[0].upper()}{note[1:]}." if note else ""
    return f"Test: {run.items:,} {run.scoring.items}.{power}{few}"


def _scores(
    comparison: Comparison,
    column: Column,
    done: Sequence[str],
    scored: Mapping[Cell, ScoredCell],
    corrected: Mapping[tuple[Column, str, str], float],
) -> str:
    config = comparison.config
    measures, papers = config.tasks[column.task].measures, _papers_of(config, column)
    named = dict.fromkeys([*config.baselines, *(name for variant in done for name in comparison.baselines[variant])])
    baselines = [name for name in named if name in done]
    header = ["variant"]
    for measure in measures:
        header.append(measure)
        for baseline in baselines:
            header.append(f"- {config.variants[baseline].title}")
            header += ["p", "p (Holm)"] if measure == measures[0] else []
    tuned = bool(config.tasks[column.task].grid)
    header += ["settings"] if tuned else []
    ours = len(header)
    of_papers = [measure for measure in measures if any(measure in paper.figures for paper in papers)]
    header += [f"{measure}, papers" for measure in of_papers]
    rows = []
    for variant in done:
        cell = scored[column, variant]
        row = [config.variants[variant].title]
        for measure in measures:
            row.append(seeds_cell(cell.run.values[measure]) if cell.run.is_defined(measure) else UNDEFINED)
            for baseline in baselines:
                p_value, test = corrected.get((column, variant, baseline)), cell.minus.get(baseline, {}).get(measure)
                shown = test is not None and p_value is not None  # two baselines are compared once
                row.append(_difference(test) if shown and test else "")
                if measure == measures[0]:
                    row += [f"{test.p_value:.4f}", f"{p_value:.4f}"] if shown and test else ["", ""]
        if tuned:
            row.append(", ".join(f"{key} {value}" for key, value in cell.point.items()))
        rows.append(row + [_figures(papers, column, measure, variant) for measure in of_papers])
    for name, title in config.cited.items():
        cells = [_figures(papers, column, measure, name) for measure in of_papers]
        rows += [[f"{title} (cited)", *[""] * (ours - 1), *cells]] if any(cells) else []
    table = markdown_table(header, rows)
    if not papers:
        return table
    sources = "; ".join(f"[{number}] {paper.source}" for number, paper in enumerate(papers, start=1))
    return f"{table}\n\nPapers' figures are not ours: they have other encoders, other data and no variance. {sources}."


def _papers_of(config: ComparisonConfig, column: Column) -> list[PaperConfig]:
    """The papers that have figures beside a column."""
    return [paper for paper in config.papers if paper.task == column.task and column.fraction in paper.beside]


def _figures(papers: Sequence[PaperConfig], column: Column, measure: str, row: str) -> str:
    """What papers report for a row, each figure with the number of its source."""
    found = [
        (number, figures[paper.beside.index(column.fraction)])
        for number, paper in enumerate(papers, start=1)
        if (figures := paper.figures.get(measure, {}).get(row)) is not None
    ]
    return ", ".join(f"{figure:g} [{number}]" for number, figure in found if figure is not None)


def _difference(test: PairedTest) -> str:
    difference = test.difference
    return f"{100 * difference.mean:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _differences(
    comparison: Comparison, column: Column, measure: str, baseline: str, scored: Mapping[Cell, ScoredCell]
) -> list[tuple[str, PairedTest]]:
    return [
        (comparison.config.variants[variant].title, cell.minus[baseline][measure])
        for (of, variant), cell in scored.items()
        if of == column and baseline in cell.minus
    ]
