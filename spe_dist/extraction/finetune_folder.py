"""The folder of a fine-tuning; seeds share what scores are made of, and keep the rest apart.

RUN/predictions/      gold test data and what each seed's best epoch found in it (see predictions.py)
RUN/dev/predictions/  the same of dev
RUN/seed-1/           config.yaml  versions.json  result.json  metrics.jsonl  tensorboard/  finetune.log
                      model/         the best epoch's extractor (see extractor_folder.py)
                      checkpoints/   what a killed run goes on from; gone when it is over
                      LOCK           held while the run goes on
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from spe_dist.extraction.finetune_config import FinetuneConfig
from spe_dist.recipe import config_values, config_yaml
from spe_dist.train.run_folder import CONFIG, METRICS, VERSIONS, flatten, start_log
from spe_dist.versions import package_versions

DEV, MODEL, RESULT, LOG = "dev", "model", "result.json", "finetune.log"
_PLACES = ("run.name", "run.folder")


@dataclass(frozen=True)
class Result:
    """How a fine-tuning of one seed ended.

    Args:
        seed: of the run.
        epochs: trained.
        best_epoch: the one that was kept, counted from 1.
        dev: micro F1 of the best epoch by measure, in 0..1.
        test: the same on test; None if there was no test data.
    """

    seed: int
    epochs: int
    best_epoch: int
    dev: dict[str, float]
    test: dict[str, float] | None


def seed_folder(config: FinetuneConfig) -> Path:
    """The folder of this run's seed."""
    return Path(config.run_folder) / f"seed-{config.run.seed}"


def prepare_folder(config: FinetuneConfig) -> None:
    """Make or reopen the folder of a seed, and start its log.

    Raises:
        UserError: it holds a run of another configuration, or cannot be written.
    """
    folder = seed_folder(config)
    _check_same_run(folder, config)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / CONFIG, config_yaml(config).encode())
        write_atomically(folder / VERSIONS, (json.dumps({"versions": package_versions()}, indent=2) + "\n").encode())
        start_log(folder / LOG)


def write_result(config: FinetuneConfig, result: Result) -> None:
    """Say that the run is over."""
    write_atomically(seed_folder(config) / RESULT, (json.dumps(asdict(result), indent=2) + "\n").encode())


def read_result(config: FinetuneConfig) -> Result | None:
    """What `write_result` wrote; None if the run is not over."""
    path = seed_folder(config) / RESULT
    return Result(**json.loads(path.read_text())) if path.is_file() else None


def _check_same_run(folder: Path, config: FinetuneConfig) -> None:
    metrics = folder / METRICS
    if not metrics.is_file() or not metrics.stat().st_size:  # nothing was trained: a wrong path can be mended
        return
    before, now = flatten(yaml.safe_load((folder / CONFIG).read_text())), flatten(config_values(config))
    changed: list[tuple[str, Any, Any]] = [
        (key, before.get(key), now.get(key)) for key in sorted(before.keys() | now.keys()) if key not in _PLACES
    ]
    differences = [f"{key} was {old} and is {new}" for key, old, new in changed if old != new]
    if differences:
        raise UserError(
            f"{folder} holds a fine-tuning of another configuration ({', '.join(differences[:3])}): "
            "give this one its own run.name"
        )
