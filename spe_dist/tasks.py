"""The tasks that models are fine-tuned for, by the name that recipes give them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data_shards.errors import UserError
from spe_dist.document_relations.config import DocumentRelationsConfig
from spe_dist.entity_typing.config import EntityTypingConfig
from spe_dist.extraction.config import ExtractionConfig
from spe_dist.extractive_qa.config import ExtractiveQaConfig
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.folder import DEV
from spe_dist.multi_choice.config import MultiChoiceConfig
from spe_dist.recipe import checked_config
from spe_dist.sentence_relations.config import SentenceRelationsConfig
from spe_dist.train.run_folder import CONFIG

TASKS: dict[str, type[FinetuneConfig]] = {
    "extraction": ExtractionConfig,
    "document_relations": DocumentRelationsConfig,
    "sentence_relations": SentenceRelationsConfig,
    "entity_typing": EntityTypingConfig,
    "multi_choice": MultiChoiceConfig,
    "extractive_qa": ExtractiveQaConfig,
}
DEFAULT = "extraction"  # of recipes, and of folders of older runs, that name no task


def finetuning_config(values: Mapping[str, Any], *, source: str) -> FinetuneConfig:
    """Check nested values against the configuration of their task.

    Raises:
        UserError: one line that names every wrong key and value.
    """
    return checked_config(config_of_task(values.get("task", DEFAULT), source=source), values, source=source)


def config_of_task(name: object, *, source: str) -> type[FinetuneConfig]:
    """The kind of configuration that a task has.

    Raises:
        UserError: there is no such task.
    """
    if name not in TASKS:
        raise UserError(f"{source}: task is {name!r}; these are offered: {', '.join(TASKS)}")
    return TASKS[str(name)]


def settings_of_run(run: Path) -> dict[str, Any] | None:
    """The settings that a fine-tuning was started with, or the one whose predictions on dev lie in this folder.

    Returns:
        None if none of its seeds has kept them.
    """
    folders = [run.resolve()]
    folders += [folders[0].parent] if folders[0].name == DEV else []  # RUN/dev has predictions, but no seeds
    found = [path for folder in folders for path in sorted(folder.glob(f"seed-*/{CONFIG}"))]
    return yaml.safe_load(found[0].read_text()) if found else None
