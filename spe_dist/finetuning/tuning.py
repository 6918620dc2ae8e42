"""Tuning that is equal for every start: the same points of a grid, in the same order, judged by dev alone.

TUNE/tuning.yaml         grid, seed of the draw and starts: one folder holds one tuning
TUNE/START/trial-007/    the seventh point: a fine-tuning of some seeds (see finetune_folder.py), without its models
TUNE/tuning.md, .json    dev scores of all trials of all starts
TUNE/best-START.yaml     a recipe of fine-tuning with the best settings
TUNE/elapsed.json        what the tuning has taken so far

PURE, but for what is read from and written to this folder.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from spe_dist.finetuning.config import BERT, FinetuneConfig
from spe_dist.finetuning.folder import read_result, seed_folder
from spe_dist.recipe import read_values, with_settings
from spe_dist.settings import is_among
from spe_dist.train.line_files import read_json_lines
from spe_dist.train.run_folder import METRICS

Grid = Mapping[str, tuple[Any, ...]]
Point = Mapping[str, Any]

_DRAW = 11  # keeps these random numbers apart from the ones of other purposes
_NO_SECTIONS = {"task", "run", "data", "start", "encoder", "kernels", "seeds", "cluster"}  # not for a grid
_MORE_SETTINGS = ("encoder.dropout", "encoder.attention_dropout")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is tuned, and the budget.

    Args:
        folder: folder of the tuning.
        starts: by name, the fine-tuning from each, of all seeds, with the settings that are not tuned.
        grid: setting → its values.
        draw: seed of the order in which points of the grid are tried.
        trials: most points; None: all.
    """

    folder: Path
    starts: Mapping[str, FinetuneConfig]
    grid: Grid
    draw: int = 1
    trials: int | None = None

    @property
    def points(self) -> list[Point]:
        """The points to try, in order; the first ones of a larger budget are those of a smaller one."""
        return draw_points(self.grid, self.trials, seed=self.draw)

    def trial(self, start: str, number: int, point: Point) -> FinetuneConfig:
        """The fine-tuning of a point, of all seeds.

        Args:
            start: its name.
            number: number of the point, from 1.
            point: its settings.

        Raises:
            UserError: a setting or value is not allowed.
        """
        config = with_point(self.starts[start], point)
        run = replace(config.run, folder=str(self.folder / start), name=f"trial-{number:03d}")
        return replace(config, run=run)


@dataclass(frozen=True)
class Trial:
    """A point that was tried.

    Args:
        number: from 1.
        settings: the point.
        dev: measure → of each seed, in 0..1; empty if a seed has failed.
        score: by which trials are compared: the task's selection score of the means over seeds.
        seconds: seconds of training and evaluation, all seeds together.
        failure: why a seed has failed; None if none has.
    """

    number: int
    settings: Point
    dev: Mapping[str, tuple[float, ...]]
    score: float
    seconds: float
    failure: str | None = None


def read_grid(parts: Sequence[str], sections: Sequence[str]) -> Grid:
    """The grid that a person wrote.

    Args:
        sections: sections of settings that may be tuned, see `sections_to_tune`.
        parts: each `setting=value,value,…`, or a YAML file of settings with a list of values each.

    Raises:
        UserError: a part is neither, a setting is not one to tune or comes twice, or has no values or equal ones.
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for part in parts:
        name, equals, text = part.partition("=")
        written = {name: _values_in(text, part)} if equals else read_values(Path(part))
        for setting, values in written.items():
            key = str(setting).strip().removeprefix("--").replace("-", "_")
            _check_setting(key, grid, sections)
            grid[key] = _checked_values(key, values)
    if not grid:
        raise UserError("nothing to tune: give --grid setting=value,value, such as optimizer.learning-rate=1e-4,2e-4")
    return grid


def draw_points(grid: Grid, number: int | None, *, seed: int) -> list[Point]:
    """Points of a grid in an order that the seed says, each once.

    Args:
        grid: setting → its values.
        number: most points; None: all.
        seed: seed of the order.
    """
    sizes = [len(values) for values in grid.values()]
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_DRAW, seed))))
    order = generator.permutation(math.prod(sizes))[:number]
    places = np.stack(np.unravel_index(order, sizes), axis=1).tolist()
    return [{name: values[place] for (name, values), place in zip(grid.items(), row, strict=True)} for row in places]


def with_point(config: FinetuneConfig, point: Point) -> FinetuneConfig:
    """The same fine-tuning with the settings of a point.

    Raises:
        UserError: a setting or value is not allowed; it names the setting.
    """
    changed = with_settings(config, point, source="--grid")
    changed.check()
    return changed


def names_of_starts(starts: Sequence[str]) -> dict[str, str]:
    """A name that may be a folder for each start → the start: its last part, or all of it where that is not enough.

    Raises:
        UserError: there is none, one comes twice, or two would have the same name.
    """
    twice = [start for start, count in Counter(start.rstrip("/") for start in starts).items() if count > 1]
    if twice or not starts:
        raise UserError(f"--from {twice[0]} is given twice" if twice else "nothing to start from: give --from")
    last = {start: Path(os.path.abspath(start)).name for start in starts}
    times = Counter(last.values())
    named: dict[str, str] = {}
    for start in starts:
        name = last[start] if times[last[start]] == 1 else start.strip("/").replace("/", "-")
        if name in named:
            raise UserError(
                f"--from {named[name]} and --from {start} would both be kept in a folder {name}: give one of them by "
                "another path, such as its absolute one, or rename its folder"
            )
        named[name] = start
    return named


def read_trial(config: FinetuneConfig, number: int, settings: Point, failure: str | None = None) -> Trial | None:
    """What came of a point.

    Args:
        config: configuration of the trial, of all seeds.
        number: number of the point.
        settings: settings of the point.
        failure: why a seed has failed now.

    Returns:
        None if not all seeds are done and none has failed.
    """
    results = [read_result(seed) for seed in config.of_each_seed()]
    done = [result for result in results if result is not None]
    seconds = sum(seconds_of(seed) for seed in config.of_each_seed())
    if failure is None and len(done) < len(results):
        return None
    if failure is not None:
        return Trial(number, settings, {}, -math.inf, seconds, failure)
    dev = {name: tuple(result.dev[name] for result in done) for name in done[0].dev}
    score = config.scoring().selection_score({name: fmean(values) for name, values in dev.items()})
    return Trial(number, settings, dev, score, seconds)


def seconds_of(config: FinetuneConfig) -> float:
    """Seconds of training and evaluation of a seed so far, starts after a stop included."""
    path = seed_folder(config) / METRICS
    lines = read_json_lines(path, field="step") if path.is_file() else []
    return max((values["elapsed_seconds"] for _, values in lines), default=0.0)


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score on dev (the first of equal ones); None if all have failed."""
    done = [trial for trial in trials if trial.dev]
    return max(done, key=lambda trial: trial.score) if done else None


def check_same_tuning(tuning: Tuning) -> None:
    """Compare with what the folder holds, and keep it there.

    Raises:
        UserError: it holds a tuning of another grid, or of starts that are left out now.
    """
    path = tuning.folder / "tuning.yaml"
    now = {
        "grid": json.loads(json.dumps(tuning.grid)),
        "draw": tuning.draw,
        "starts": {name: _start(config) for name, config in tuning.starts.items()},
    }
    before = yaml.safe_load(path.read_text()) if path.is_file() else now
    for key in ("grid", "draw"):
        if before[key] != now[key]:
            raise UserError(
                f"{tuning.folder} holds a tuning of another {key} (it was {before[key]} and is {now[key]}): "
                "give this one its own --name"
            )
    missing = [name for name, start in before["starts"].items() if now["starts"].get(name) != start]
    if missing:
        start = before["starts"][missing[0]]
        raise UserError(
            f"{tuning.folder} holds a tuning of {missing[0]} ({start}): name it with --from too, so that all have the "
            "same budget, or give this tuning its own --name"
        )
    with explain_write_errors(tuning.folder):
        tuning.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, yaml.safe_dump(now, sort_keys=False).encode())


def _start(config: FinetuneConfig) -> str:
    """What a start is called in words: of `bert`, the encoder."""
    if config.start.pretrained != BERT:
        return config.start.pretrained
    return f"{BERT}, {config.encoder.name_or_path or 'a new encoder'}"


def sections_to_tune(config: FinetuneConfig) -> list[str]:
    """The sections of a task's configuration whose settings may be tuned: starts share the rest."""
    return [each.name for each in fields(config) if each.name not in _NO_SECTIONS]


def _check_setting(key: str, grid: Mapping[str, object], sections: Sequence[str]) -> None:
    if not (is_among(key, sections) and "." in key) and key not in _MORE_SETTINGS:
        places = ", ".join(f"{section}.…" for section in sections)
        raise UserError(
            f"--grid {key}: not a setting to tune; these are {places} and {', '.join(_MORE_SETTINGS)}, as all starts "
            "share the data and keep their encoders"
        )
    if key in grid:
        raise UserError(f"--grid {key} is given twice: list all values once")


def _values_in(text: str, part: str) -> list[Any]:
    try:
        return yaml.safe_load(f"[{text}]")
    except yaml.YAMLError as error:
        raise UserError(f"--grid {part}: not values with commas between them") from error


def _checked_values(key: str, values: object) -> tuple[Any, ...]:
    if not isinstance(values, list) or not values:
        raise UserError(f"--grid {key}: no list of values (given: {values!r})")
    numbers = tuple(map(_number, values))
    if len({json.dumps(value) for value in numbers}) < len(numbers):
        raise UserError(f"--grid {key}: a value is given twice: {', '.join(map(str, values))}")
    return numbers


def _number(value: Any) -> Any:
    """YAML takes 1e-4 for a text, as it has no point."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
