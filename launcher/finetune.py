"""`spe finetune`: a pre-trained encoder becomes an extractor of entities and relations.

    spe finetune --from RUN --train FILE --dev FILE --test FILE
    spe finetune --from bert --encoder NAME_OR_PATH --train FILE --dev FILE

Short for settings: --from (start.pretrained), --encoder (encoder.name-or-path), --train, --dev and --test (data.…),
--fraction (data.fraction), --seed (run.seed), --name (run.name). `--config` names another recipe than the paper's.
`--dry-run` says what would be read, loaded and done. The same command again goes on where a killed run was.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import tyro

from launcher.pretrain import RECIPES, split_recipe
from spe_dist.extraction.finetune_config import FinetuneConfig
from spe_dist.recipe import checked_config, read_values

DEFAULT = RECIPES / "finetune_spe.yaml"
SHORT = {
    "--from": "--start.pretrained",
    "--encoder": "--encoder.name-or-path",
    "--train": "--data.train",
    "--dev": "--data.dev",
    "--test": "--data.test",
    "--fraction": "--data.fraction",
    "--seed": "--run.seed",
    "--name": "--run.name",
}


def main(arguments: list[str]) -> None:
    """Fine-tune one seed.

    Raises:
        UserError: anything that the person at the keyboard can mend.
    """
    config, dry_run = read_arguments(arguments)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # for pip's ninja
    from spe_dist.extraction.finetune import describe, finetune
    from spe_dist.extraction.finetune_folder import MODEL, seed_folder

    if dry_run:
        print(describe(config))
        return
    _show_log()
    finetune(config)
    print(f"model: {seed_folder(config) / MODEL}   Curves: tensorboard --logdir {config.run_folder}")


def read_arguments(arguments: list[str]) -> tuple[FinetuneConfig, bool]:
    """The configuration, and whether to stop at a dry run."""
    rest = [_in_full(argument) for argument in arguments if argument != "--dry-run"]
    path, rest = split_recipe(rest, default=DEFAULT)
    recipe = checked_config(FinetuneConfig, read_values(path), source=str(path))
    config = tyro.cli(FinetuneConfig, default=recipe, args=rest, prog="spe finetune", description=__doc__)
    return config, "--dry-run" in arguments


def _in_full(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return f"{SHORT.get(name, name)}{equals}{value}"


def _show_log() -> None:
    """What the run has to say, as it says it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: record.name.startswith("spe_dist.") and record.exc_info is None)
    logging.getLogger().addHandler(handler)
