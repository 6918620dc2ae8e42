"""README.md of a fine-tuned model: what it started from, learned from and scores. It names no folder of any machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from data_shards.counted import counted
from spe_dist.export.model_card import without_folders
from spe_dist.finetuning.config import BERT, FinetuneConfig
from spe_dist.finetuning.folder import DEV, MODEL, Origin, Result
from spe_dist.recipe import config_values
from spe_dist.settings import flatten, is_among
from spe_dist.text_table import markdown_table

if TYPE_CHECKING:
    from spe_dist.finetuning.data import Data

# Sections that say nothing about the model, or that the card says in words.
_LEFT_OUT = ("task", "run", "data", "start", "encoder", "kernels", "seeds", "cluster", "train.checkpoint_every")


def model_card(config: FinetuneConfig, data: Data[Any, Any], result: Result, versions: Mapping[str, str]) -> str:
    """The card of a task that has no words of its own."""
    counts = {
        "train": (len(data.train),),
        DEV: (len(data.dev),),
        "test": None if data.test is None else (len(data.test),),
    }
    parts = (
        f"---\nlibrary_name: spe_dist\n---\n\n# {config.run.name}",
        f"Trained for {config.task} by spe_dist. {started_and_trained(config, result)}",
        "## Scores\n\n" + scores_table(result),
        *about_making(config, counts, [config.scoring().items], versions),
    )
    return "\n\n".join(parts) + "\n"


def started_and_trained(config: FinetuneConfig, result: Result) -> str:
    """What the weights began as, and how long they were trained."""
    assert result.start is not None  # only files of before it was kept have none, and their cards are written
    return (
        f"{_start(config, result.start)} It was fine-tuned for {counted(result.epochs, 'epoch')} with seed "
        f"{result.seed}; these are the weights after epoch {result.best_epoch}, the best on dev."
    )


def _start(config: FinetuneConfig, start: Origin) -> str:
    if not start.loaded:
        return "All weights started as new ones."
    new = f"; {_listed(start.new)} from new weights" if start.new else ""
    name = _name_of_start(config, start.kind)
    return f"The {_listed(start.loaded)} started from the {start.kind} `{name}`{new}."


def _name_of_start(config: FinetuneConfig, kind: str) -> str:
    if config.start.pretrained == BERT:
        return without_folders(config.encoder.name_or_path or BERT)
    path = PurePath(config.start.pretrained)
    if kind != "run" and path.name == MODEL:  # RUN/seed-N/model
        return "/".join(path.parts[-3:-1])
    return "/".join(path.parts[-2:]) if kind == "run" and path.name == "export" else path.name


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def scores_table(result: Result) -> str:
    """Scores of the best epoch on dev and test, in percent."""
    test = result.test or {}
    rows = [
        (measure, f"{100 * dev:.2f}", f"{100 * test[measure]:.2f}" if measure in test else "-")
        for measure, dev in result.dev.items()
    ]
    return markdown_table(("measure", "dev", "test"), rows, padded=False)


def about_making(
    config: FinetuneConfig,
    counts: Mapping[str, Sequence[int] | None],
    columns: Sequence[str],
    versions: Mapping[str, str],
) -> list[str]:
    """Sections of data, settings and versions.

    Args:
        config: configuration of the fine-tuning.
        counts: "train" (what was learned from), "dev" and "test" → how many of what `columns` says.
        columns: what is counted.
        versions: versions of Python and packages.
    """
    rows = []
    for part, of_part in counts.items():
        if of_part is not None:
            file = getattr(config.data, part)
            name = table_cell(PurePath(file or config.data.train).name)
            share = f" ({config.data.fraction:.4g} of it)" if part == "train" and config.data.fraction < 1 else ""
            share = share if file else " (a part that is not learned from)"
            rows.append((part, f"`{name}`{share}", *(f"{count:,}" for count in of_part)))
    settings = [(key, value) for key, value in flatten(config_values(config)).items() if not is_among(key, _LEFT_OUT)]
    return [
        "## Data\n\n" + markdown_table(("part", "file", *columns), rows, padded=False),
        "## Settings\n\n" + markdown_table(("setting", "value"), settings, padded=False),
        "## Versions\n\n" + markdown_table(("package", "version"), versions.items(), padded=False),
    ]


def table_cell(text: str) -> str:
    """Text that cannot leave a cell of a table, or its code."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
