"""What came of a tuning: a table of the trials of each start, the same for programs, recipes with the best settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from data_shards.counted import counted
from data_shards.files import explain_write_errors, write_atomically
from spe_dist.finetuning.tuning import Trial, Tuning, best_trial, with_point
from spe_dist.recipe import config_yaml
from spe_dist.text_table import markdown_table
from spe_dist.versions import package_versions, this_machine

Trials = Mapping[str, Sequence[Trial]]


def write_report(tuning: Tuning, trials: Trials, budget: str) -> str:
    """Write tuning.md, tuning.json and best-START.yaml into the folder of the tuning.

    Args:
        tuning: that is over.
        trials: trials of each start.
        budget: what was allowed, in words.

    Returns:
        The tables.
    """
    table = tuning_table(tuning, trials, budget)
    content = json.dumps(tuning_json(tuning, trials, budget), indent=1, ensure_ascii=False) + "\n"
    with explain_write_errors(tuning.folder):
        write_atomically(tuning.folder / "tuning.md", table.encode())
        write_atomically(tuning.folder / "tuning.json", content.encode())
        for start, of_start in trials.items():
            if (best := best_trial(of_start)) is not None:
                recipe = best_recipe(tuning, start, best, len(of_start))
                write_atomically(recipe_path(tuning, start), recipe.encode())
    return table


def recipe_path(tuning: Tuning, start: str) -> Path:
    """Where the recipe with the best settings of a start lies."""
    return tuning.folder / f"best-{start}.yaml"


def best_recipe(tuning: Tuning, start: str, best: Trial, trials: int) -> str:
    """A recipe of fine-tuning with the best settings of a start.

    Args:
        tuning: that is over.
        start: its name.
        best: its best trial.
        trials: trials of the start.
    """
    config = with_point(tuning.starts[start], best.settings)
    run = replace(config.run, name=f"{tuning.folder.name}-{start}")
    about = (
        f"# Trial {best.number}, the best of {trials} on dev: {settings_text(best.settings)}.\n"
        f"#   spe finetune --config {recipe_path(tuning, start)} --test FILE --seeds 5\n"
    )
    return about + config_yaml(replace(config, run=run))


def settings_text(settings: Mapping[str, Any]) -> str:
    """The settings of a point, for people."""
    return ", ".join(f"{key} {_value(value)}" for key, value in settings.items())


def tuning_table(tuning: Tuning, trials: Trials, budget: str) -> str:
    """A table in Markdown for each start, its trials from the best to the worst.

    Args:
        tuning: that is over.
        trials: trials of each start.
        budget: what was allowed, in words.
    """
    parts = [about_tuning(tuning, trials, budget)]
    for start, of_start in trials.items():
        parts.append(f"## {start}: {counted(len(of_start), 'trial')}, {_hours(of_start):.2f} hours of training")
        parts.append(_table(tuning, of_start))
    return "\n\n".join(parts) + "\n"


def about_tuning(tuning: Tuning, trials: Trials, budget: str) -> str:
    """How trials were chosen and compared."""
    config = next(iter(tuning.starts.values()))
    numbers = ", ".join(str(seed.run.seed) for seed in config.of_each_seed())
    seeds = f"seed {numbers}" if config.seeds == 1 else f"seeds {numbers}"
    part = f" ({config.data.fraction:.0%} of it)" if config.data.fraction < 1 else ""
    data, of_grid = f"{Path(config.data.train).name}{part}", math.prod(map(len, tuning.grid.values()))
    tried = max(map(len, trials.values()), default=0)
    scoring = config.scoring()
    dev = "a part of it" if config.data.dev is None else Path(config.data.dev).name
    return (
        f"Every start was tuned with the same trials ({tried} of the {of_grid} points of the grid, in the order of "
        f"draw {tuning.draw}; budget: {budget}), each with {seeds}, on {data}. {scoring.title[0].upper()}"
        f"{scoring.title[1:]} in percent on dev ({dev}), mean ± deviation over seeds; trials "
        f"are chosen by {scoring.selection_text}. No test data were read. The best of many trials is partly luck: "
        "expect less on test."
    )


def tuning_json(tuning: Tuning, trials: Trials, budget: str) -> dict[str, Any]:
    """The same for programs, and what it was made with; scores as fractions of 1.

    Args:
        tuning: that is over.
        trials: trials of each start.
        budget: what was allowed, in words.
    """
    starts = {}
    for start, of_start in trials.items():
        best = best_trial(of_start)
        starts[start] = {
            "pretrained": tuning.starts[start].start.pretrained,
            "best": None if best is None else best.number,
            "hours_of_training": _hours(of_start),
            "trials": [_trial_json(trial) for trial in of_start],
        }
    return {
        "about": about_tuning(tuning, trials, budget),
        "machine": this_machine(),
        "packages": package_versions(),
        "grid": {key: list(values) for key, values in tuning.grid.items()},
        "draw": tuning.draw,
        "budget": budget,
        "starts": starts,
    }


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "settings": dict(trial.settings),
        "dev": {
            name: {"seeds": list(values), "mean": fmean(values), "deviation": _deviation(values)}
            for name, values in trial.dev.items()
        },
        "seconds": trial.seconds,
        "failure": trial.failure,
    }


def _table(tuning: Tuning, trials: Sequence[Trial]) -> str:
    measures = list(next(iter(tuning.starts.values())).scoring().measures)
    rows = [
        [str(trial.number), *(_value(trial.settings[key]) for key in tuning.grid), *_scores(trial, measures)]
        for trial in sorted(trials, key=lambda trial: (-trial.score, trial.number))
    ]
    if (best := best_trial(trials)) is not None:
        rows = [[f"**{row[0]}**" if row[0] == str(best.number) else row[0], *row[1:]] for row in rows]
    return markdown_table(["trial", *tuning.grid, *measures], rows, left=0)


def _scores(trial: Trial, measures: Sequence[str]) -> list[str]:
    if not trial.dev:
        return [*("" for _ in measures[1:]), "failed"]
    scores = []
    for name in measures:
        deviation = _deviation(trial.dev[name])
        scores.append(f"{100 * fmean(trial.dev[name]):.1f}{'' if deviation is None else f' ± {100 * deviation:.1f}'}")
    return scores


def _deviation(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _hours(trials: Sequence[Trial]) -> float:
    return sum(trial.seconds for trial in trials) / 3600


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value) if value is None else str(value)
