"""The runs of a comparison: a pre-training of each variant, and the same fine-tunings from each.

COMPARISON/pretrain/VARIANT/                  a run; variants that differ in nothing before fine-tuning share it
COMPARISON/measured/VARIANT/                  a few steps that say how fast it is, for budgets of FLOPs and hours
COMPARISON/finetune/TASK-FRACTION/VARIANT/    a fine-tuning of all seeds; TASK-FRACTION-trial-N where there is a grid
COMPARISON/comparison.md, .json, .png         the table

PURE, but for the manifest of the shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from data_shards.errors import UserError
from data_shards.shards.manifest import Manifest
from data_shards.shards.manifest import load as load_manifest
from spe_dist.comparison.config import BudgetConfig, ComparisonConfig, Settings, VariantConfig
from spe_dist.config import Config
from spe_dist.finetuning.config import BERT, FinetuneConfig
from spe_dist.finetuning.folder import MODEL
from spe_dist.finetuning.tuning import Point, draw_points
from spe_dist.recipe import config_from_values, config_values, read_values, with_settings
from spe_dist.settings import differences, differences_text
from spe_dist.tasks import finetuning_config

Pretraining = Config | FinetuneConfig
_MEASURED_STEPS = 12  # of which the first half warms up


@dataclass(frozen=True)
class Column:
    """Scores of one task and share of its training data.

    Args:
        task: its name.
        fraction: fraction of the training data.
    """

    task: str
    fraction: float

    @property
    def title(self) -> str:
        """Title of the column, for people."""
        return self.task if self.fraction == 1 else f"{self.task}, {100 * self.fraction:g} %"


@dataclass(frozen=True)
class MeasuredStep:
    """What a step of a pre-training takes on this cluster.

    Args:
        seconds: time of the step, summed over all ranks.
        petaflops: work of the model in the step, over all ranks.
    """

    seconds: float
    petaflops: float


@dataclass(frozen=True)
class Comparison:
    """A comparison with the recipes that it names.

    Args:
        config: settings of the comparison.
        find_recipe: finds the file of a recipe by its name.
    """

    config: ComparisonConfig
    find_recipe: Callable[[str], Path]

    @property
    def columns(self) -> list[Column]:
        """Columns of the table, in order."""
        return [Column(name, fraction) for name, task in self.config.tasks.items() for fraction in task.fractions]

    @cached_property
    def pretrainings(self) -> dict[str, Pretraining | None]:
        """Pre-training of each variant, with the steps of its recipe; None for a variant without pre-training.

        Raises:
            UserError: a recipe or a setting is wrong, or encoders differ.
        """
        recipes = {
            name: read_values(self.find_recipe(variant.recipe))
            for name, variant in self.config.variants.items()
            if variant.recipe is not None
        }
        of_methods = {
            name: with_settings(
                config_from_values(values, source=str(self.config.variants[name].recipe)),
                self.config.pretrain | self.config.variants[name].settings,
                source=f"variants.{name}",
            )
            for name, values in recipes.items()
            if "method" in values
        }
        _check_same_encoder(of_methods)
        found: dict[str, Pretraining | None] = {}
        for name, variant in self.config.variants.items():
            run: Pretraining | None = of_methods.get(name)
            if name in recipes and run is None:
                base = _read_finetuning(recipes[name], source=str(variant.recipe))
                encoder = _encoder_settings(next(iter(of_methods.values()), None), base, alone=True)
                run = with_settings(base, encoder | variant.settings | {"seeds": 1}, source=f"variants.{name}")
            if run is not None:
                owner = next((other for other, before in found.items() if _same(before, run)), name)
                run = _at(run, self.config.folder / "pretrain", owner)
            _check_step(name, variant, run)
            found[name] = run
        return found

    def pretraining(self, variant: str, measured: MeasuredStep | None = None) -> Pretraining | None:
        """The pre-training of a variant within the budget.

        Args:
            variant: its name.
            measured: a step of it; None where the budget does not ask for one (see `measuring`).
        """
        run, budget = self.pretrainings[variant], self.config.budget
        if budget is None or not isinstance(run, Config):
            return run
        if budget.of == "pieces":
            each = pieces_of_step(run, load_manifest(run.data.shards))
        else:
            assert measured is not None
            each = measured.petaflops if budget.of == "petaflops" else measured.seconds / 3600
        return with_steps(run, max(1, round(budget.amount / each)))

    def measuring(self, variant: str) -> Config | None:
        """A short run that says how long a step of a variant takes; None if the budget does not ask for it."""
        run, budget = self.pretrainings[variant], self.config.budget
        if budget is None or budget.of == "pieces" or not isinstance(run, Config):
            return None
        settings = {"train.steps": _MEASURED_STEPS, "train.log_every": _MEASURED_STEPS // 2}
        return _at(
            with_settings(run, settings, source="measured"), self.config.folder / "measured", Path(run.run_folder).name
        )

    @cached_property
    def baselines(self) -> dict[str, list[str]]:
        """Variants that each one is compared with: the comparison's or its own, without itself."""
        of_all = self.config.baselines
        return {
            name: [other for other in (of_all if variant.baselines is None else variant.baselines) if other != name]
            for name, variant in self.config.variants.items()
        }

    def is_told(self, variant: str, baseline: str) -> bool:
        """Whether the variant reports the difference; of two that are each other's baselines, only the later one."""
        names = list(self.config.variants)
        return variant not in self.baselines[baseline] or names.index(variant) > names.index(baseline)

    def points(self, task: str) -> list[Point]:
        """The points of a task's grid, in order; a single one without settings if it has no grid."""
        grid = self.config.tasks[task].grid
        return draw_points(grid, None, seed=1) if grid else [{}]

    def finetunings(self, column: Column, variant: str) -> list[FinetuneConfig]:
        """The fine-tunings of a cell, of all seeds: one for each point of the grid.

        Raises:
            UserError: a recipe or a setting is wrong.
        """
        task, source = self.config.tasks[column.task], f"tasks.{column.task}"
        base = _read_finetuning(read_values(self.find_recipe(task.recipe)), source=task.recipe)
        settings: Settings = task.settings | task.fractions[column.fraction] | self._start(variant, base)
        settings |= {"data.fraction": column.fraction, "seeds": self.config.seeds}
        points = self.points(column.task)
        configs = []
        for number, point in enumerate(points, start=1):
            config = with_settings(base, {**settings, **point}, source=source)
            config.check()
            unknown = [name for name in task.measures if name not in config.scoring().measures]
            if unknown:
                raise UserError(f"{source}.measures: {unknown[0]} is none of {', '.join(config.scoring().measures)}")
            if config.data.test is None:
                raise UserError(f"{source}: data.test is null: name the file to test with")
            trial = f"-trial-{number}" if len(points) > 1 else ""
            configs.append(
                _at(config, self.config.folder / "finetune" / f"{column.task}-{column.fraction:g}{trial}", variant)
            )
        return configs

    def start(self, variant: str) -> str:
        """What the fine-tunings of a variant start from."""
        run, chosen = self.pretrainings[variant], self.config.variants[variant]
        if run is None:
            return BERT
        folder = Path(run.run_folder)
        if isinstance(run, FinetuneConfig):
            return str(folder / f"seed-{run.run.seed}" / MODEL)
        if chosen.step is not None:
            return str(folder / f"{chosen.weights}-step-{chosen.step}")
        return str(folder if chosen.weights == "query" else folder / chosen.weights)

    def _start(self, variant: str, base: FinetuneConfig) -> Settings:
        """Settings of what a fine-tuning starts from."""
        settings: Settings = {f"start.{key}": value for key, value in self.config.variants[variant].start.items()}
        reference = next((run for run in self.pretrainings.values() if isinstance(run, Config)), None)
        encoder = _encoder_settings(reference, base, alone=self.pretrainings[variant] is None)
        return encoder | settings | {"start.pretrained": self.start(variant), "start.keep_heads": False}

    def cells(self) -> Iterator[tuple[Column, str]]:
        """Every column of every variant."""
        return ((column, variant) for column in self.columns for variant in self.config.variants)


def pieces_of_step(run: Config, manifest: Manifest) -> float:
    """Word pieces of the records of one step, without [CLS] and [SEP]: the mean over the dataset."""
    statistics = manifest.statistics
    return run.batch.lanes * run.batch.lane_size * statistics.pieces / statistics.records


def with_steps(run: Config, steps: int) -> Config:
    """The same pre-training of other length; its warm-up is the same share of it."""
    warmup = round(run.optimizer.warmup_steps * steps / run.train.steps)
    return replace(
        run, train=replace(run.train, steps=steps), optimizer=replace(run.optimizer, warmup_steps=min(warmup, steps))
    )


def budget_text(budget: BudgetConfig | None) -> str:
    """The budget of a pre-training in words."""
    if budget is None:
        return "the steps of its recipe"
    return {
        "pieces": f"{budget.amount:,.0f} word pieces of records, each counted once, however often it is encoded",
        "petaflops": f"{budget.amount:,g} PFLOP of the model",
        "hours": f"{budget.amount:g} h",
    }[budget.of]


def _read_finetuning(values: dict[str, Any], *, source: str) -> FinetuneConfig:
    """A recipe of fine-tuning, which need not say what it starts from."""
    return finetuning_config({"start": {"pretrained": BERT}} | values, source=source)


def _encoder_settings(reference: Config | None, base: FinetuneConfig, *, alone: bool) -> Settings:
    """Settings that give a fine-tuning the encoder of the pre-trainings, where there are any.

    Args:
        reference: one of the pre-trainings.
        base: the fine-tuning.
        alone: it starts from the encoder as it is, and no run says how text is cut.
    """
    if reference is None:
        return {}
    sizes = config_values(reference.encoder)
    settings = {f"encoder.{key}": sizes[key] for key in sizes if not key.endswith("dropout")}
    if alone:
        settings["start.language"] = load_manifest(reference.data.shards).language
        if reference.encoder.name_or_path is None and base.start.tokenizer is None:
            settings["start.tokenizer"] = f"{reference.data.shards}/tokenizer"
    return settings


def _check_step(name: str, variant: VariantConfig, run: Pretraining | None) -> None:
    if variant.step is None:
        return
    if not isinstance(run, Config):
        raise UserError(f"variants.{name}.step: only a pre-training has steps to start from: remove it")
    every, last = run.train.keep_every, run.train.steps
    if variant.step != last and (not every or variant.step % every or variant.step > last):
        raise UserError(
            f"variants.{name}.step is {variant.step}: its run keeps the checkpoint of step {last}"
            + (f" and every {every} steps" if every else "; set train.keep_every to keep more")
        )


def _same(before: Pretraining | None, run: Pretraining) -> bool:
    return type(before) is type(run) and not differences(
        config_values(before), config_values(run), free=("run.name", "run.folder")
    )


def _at(run: Any, folder: Path, name: str) -> Any:
    return replace(run, run=replace(run.run, folder=str(folder), name=name))


def _check_same_encoder(runs: Mapping[str, Config]) -> None:
    """Arms that begin with different encoders say nothing about pre-training."""
    first: tuple[str, dict[str, Any]] | None = None
    for name, run in runs.items():
        encoder = {key: value for key, value in config_values(run.encoder).items() if not key.endswith("dropout")}
        if first is None:
            first = name, encoder
        elif changed := differences(first[1], encoder):
            raise UserError(
                f"variants {first[0]} and {name} begin with different encoders ({differences_text(changed)}): "
                "set encoder.… under `pretrain`, for all variants"
            )
