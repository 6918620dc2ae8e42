"""The settings of a comparison of pre-trainings: variants × tasks × shares of training data × seeds."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_shards.errors import UserError
from spe_dist.config import STRICT, Folder, FolderName, Part, Positive
from spe_dist.export.export_format import Weights
from spe_dist.finetuning.config import StartConfig
from spe_dist.recipe import checked_config, read_values

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ComparisonRunConfig:
    """Name and folder of the comparison."""

    name: FolderName
    """Name of the comparison and of its folder in `folder`. Starting the same name again resumes."""
    folder: Folder
    """Folder of runs."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BudgetConfig:
    """Budget of every pre-training: it sets train.steps, and warm-up in proportion.

    Fine-tuning on distant labels ignores it and has the epochs of its recipe.
    """

    of: Literal["pieces", "petaflops", "hours"]
    """Unit of the budget: word pieces of the records that are read (each counted once, however often it is encoded),
    model FLOPs in units of 1e15 (petaflops), or hours of training. FLOPs and hours are converted into steps by the
    speed of a few steps of each pre-training on this cluster."""
    amount: Annotated[float, Field(gt=0)]
    """Size of the budget, in this unit."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VariantConfig:
    """One row of the table: what a fine-tuning starts from."""

    title: str
    """Name of the variant in the table."""
    recipe: str | None = None
    """Recipe of the variant's pre-training. A recipe of fine-tuning trains one seed on distant labels instead; its
    classifiers are then dropped. Null: no pre-training, the encoder as it is."""
    settings: Settings = field(default_factory=dict)
    """Settings in which it differs from the recipe, by dotted name."""
    weights: Weights = "query"
    """Which weights of the run: those trained by gradient (query), or their moving average (momentum)."""
    step: Positive | None = None
    """Step of the pre-training to start from, one whose checkpoint is kept (train.keep_every); a run that has this
    checkpoint is not continued. Null: the last step."""
    start: Settings = field(default_factory=dict)
    """Settings of the section `start` in the variant's fine-tunings, such as no_cnn."""
    baselines: tuple[str, ...] | None = None
    """Variants that this one is compared with. Null: those that the comparison names for all."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ComparedTaskConfig:
    """A fine-tuning that every variant goes through."""

    recipe: str
    """Recipe of the fine-tuning."""
    settings: Settings = field(default_factory=dict)
    """Settings in which it differs from the recipe, by dotted name; data.train, data.dev and data.test at least."""
    fractions: dict[Part, Settings] = field(default_factory=lambda: {1.0: {}})
    """Shares of the training data, each a column of the table, with settings for the fine-tunings on this share only:
    few data may need more epochs."""
    measures: tuple[str, ...]
    """Measures of the task to show. Only differences in the first one are tested, so that p-values need not be
    corrected for the others."""
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Settings to tune, each with its values: every variant is trained with all combinations, and the combination with
    the best mean score on dev is shown. So no variant is tuned better than another."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PaperConfig:
    """Figures that a paper reports."""

    source: str
    """Paper and table, and what was trained and tested: the encoder, the data, how many runs."""
    task: str
    """Task of the comparison whose scores they are shown with."""
    beside: tuple[Part, ...]
    """Shares of this task's training data (columns of the comparison) that they are shown with."""
    figures: dict[str, dict[str, tuple[float | None, ...]]]
    """Measure → variant or cited row → a figure in percent for each of `beside`; null: the paper has none."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ComparisonConfig:
    """A comparison of pre-trainings."""

    run: ComparisonRunConfig
    about: str = ""
    """Text above the table."""
    budget: BudgetConfig | None = None
    """What every pre-training may cost. Null: the steps of its recipe."""
    baselines: tuple[str, ...]
    """Variants that the others are compared with, unless they name their own."""
    seeds: Positive
    """Seeds of each fine-tuning."""
    pretrain: Settings = field(default_factory=dict)
    """Settings of all pre-trainings, by dotted name."""
    variants: dict[str, VariantConfig]
    """Variants of the pre-training, by name."""
    tasks: dict[str, ComparedTaskConfig]
    """Fine-tuning tasks, by name."""
    cited: dict[str, str] = field(default_factory=dict)
    """Titles, by name, of rows for which nothing is run: they hold what papers report and nothing else."""
    papers: tuple[PaperConfig, ...] = ()
    """What papers report, shown beside our scores."""

    @property
    def folder(self) -> Path:
        """Folder of all runs and tables."""
        return Path(self.run.folder) / self.run.name


def read_comparison(path: Path) -> ComparisonConfig:
    """Read the recipe of a comparison.

    Raises:
        UserError: it cannot be read, or a key or value is not allowed.
    """
    config = checked_config(ComparisonConfig, read_values(path), source=str(path))
    check_comparison(config, source=str(path))
    for number, paper in enumerate(config.papers):
        _check_paper(config, paper, source=f"{path}: papers[{number}]")
    return config


def check_comparison(config: ComparisonConfig, *, source: str) -> None:
    """Raise a UserError unless names and settings fit each other."""
    if not config.variants or not config.tasks:
        raise UserError(f"{source}: name at least one variant and one task")
    of_variants = {f"variants.{name}.baselines": variant.baselines for name, variant in config.variants.items()}
    for key, baselines in {"baselines": config.baselines, **of_variants}.items():
        unknown = [name for name in baselines or () if name not in config.variants]
        if unknown or (key == "baselines" and not baselines):
            raise UserError(
                f"{source}: {key}: {', '.join(unknown) or 'none'}: name some of the variants "
                f"{', '.join(config.variants)}"
            )
    allowed = [name for name in StartConfig.__dataclass_fields__ if name not in ("pretrained", "tokenizer", "language")]
    for name, variant in config.variants.items():
        wrong = [key for key in variant.start if key not in allowed]
        if wrong:
            raise UserError(f"{source}: variants.{name}.start: {wrong[0]!r} is none of {', '.join(allowed)}")
    for name in (*config.variants, *config.tasks):
        if not name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"{source}: {name!r} becomes the name of a folder: use letters, digits, _ and -")


def _check_paper(config: ComparisonConfig, paper: PaperConfig, *, source: str) -> None:
    """Raise a UserError unless each of its figures has a place in the table."""
    task = config.tasks.get(paper.task)
    if task is None:
        raise UserError(f"{source}: task is {paper.task!r}: it must be one of {', '.join(config.tasks)}")
    missing = [share for share in paper.beside if share not in task.fractions]
    if missing:
        raise UserError(f"{source}: beside: the task {paper.task} has no share {missing[0]:g} of its training data")
    for measure, rows in paper.figures.items():
        if measure not in task.measures:
            raise UserError(f"{source}: {measure!r} is none of the measures {', '.join(task.measures)}")
        for name, figures in rows.items():
            if name not in config.variants and name not in config.cited:
                raise UserError(f"{source}: {name!r} is neither a variant nor one of `cited`")
            if len(figures) != len(paper.beside):
                raise UserError(
                    f"{source}: {measure} of {name} has {len(figures)} figures: it takes {len(paper.beside)}, one for "
                    "each of `beside`, and null where the paper has none"
                )
