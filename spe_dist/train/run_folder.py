"""The folder of a run holds everything about it.

config.yaml       the resolved configuration           versions.json   of Python and the packages
tokenizer/        of the shards                        encoder.json    sizes of the sentence encoder
metrics.jsonl     one line per logged step             tensorboard/    the same as curves
logs/rank-0.log   what each rank said                  checkpoints/    see checkpoint/store.py
dataset.json      manifest without the list of shards
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import yaml

from data_shards.errors import UserError
from data_shards.manifest import Manifest, parse
from spe_dist.config import Config
from spe_dist.engine.world import World
from spe_dist.recipe import config_values, config_yaml

CONFIG, VERSIONS, ENCODER, METRICS = "config.yaml", "versions.json", "encoder.json", "metrics.jsonl"
DATASET = "dataset.json"
TOKENIZER, TENSORBOARD, LOGS, CHECKPOINTS = "tokenizer", "tensorboard", "logs", "checkpoints"

_PACKAGES = ("torch", "deepspeed", "transformers", "webdataset", "numpy", "ray")
# What may differ between a run and its continuation, because the stream of batches and the model stay the same.
_FREE = ("run", "data.shards", "data.cache", "data.workers", "batch.lanes_per_forward", "encoder.name_or_path", "train",
         "cluster")  # fmt: skip
_FIXED = ("run.seed", "train.precision")


def prepare_run_folder(config: Config, *, tokenizer: Path, fingerprint: str, world: World) -> Path:
    """Make or reopen the folder of a run, and start this rank's log.

    Args:
        config: the resolved configuration.
        tokenizer: folder of the shards' tokenizer, copied into the run.
        fingerprint: of the dataset; a run cannot go on with another one.
        world: this rank among all.

    Raises:
        UserError: the folder belongs to a run of another configuration or dataset, or cannot be written.
    """
    folder = Path(config.run_folder)
    problem = None
    if world.is_first:
        try:
            _check_same_run(folder, config, fingerprint)
            _write(folder, config, tokenizer, fingerprint)
        except UserError as error:
            problem = str(error)
        except OSError as error:
            problem = f"cannot write the run folder {folder}: {error.strerror}"
    problem = world.broadcast_object(problem)
    if problem:
        raise UserError(problem)
    _start_log(folder / LOGS / f"rank-{world.rank}.log")
    return folder


def write_dataset(folder: Path, manifest: Manifest) -> None:
    """Keep what the manifest says of the dataset as a whole: the run may outlive the shards, or be far from them."""
    (folder / DATASET).write_text(replace(manifest, shardlist=()).to_json())


def read_dataset(folder: Path) -> Manifest:
    """What `write_dataset` wrote.

    Raises:
        UserError: it is missing or malformed.
    """
    try:
        return parse((folder / DATASET).read_bytes(), str(folder / DATASET))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not a whole run: no {DATASET} there; start the run again, which adds it"
        ) from error


def _check_same_run(folder: Path, config: Config, fingerprint: str) -> None:
    if not (folder / CONFIG).exists():
        return
    before = _flatten(yaml.safe_load((folder / CONFIG).read_text()))
    now = _flatten(config_values(config))
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    fixed = [key for key in changed if key in _FIXED or not any(key == f or key.startswith(f"{f}.") for f in _FREE)]
    if fixed:
        differences = ", ".join(f"{key} was {before.get(key)} and is {now.get(key)}" for key in fixed[:3])
        raise UserError(
            f"{folder} holds a run of another configuration ({differences}): give this one its own run.name"
        )
    known = json.loads((folder / VERSIONS).read_text())["dataset"]
    if known != fingerprint:
        raise UserError(
            f"{folder} holds a run on another dataset (fingerprint {known[:12]}, now {fingerprint[:12]}): "
            "give this one its own run.name"
        )


def _flatten(values: dict, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _write(folder: Path, config: Config, tokenizer: Path, fingerprint: str) -> None:
    for part in (LOGS, CHECKPOINTS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    shutil.copytree(tokenizer, folder / TOKENIZER, dirs_exist_ok=True)
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    (folder / VERSIONS).write_text(json.dumps({"dataset": fingerprint, "versions": versions}, indent=2) + "\n")
    (folder / CONFIG).write_text(config_yaml(config))


def _start_log(path: Path) -> None:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("spe_dist")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
