"""The folder of a run holds everything about it.

config.yaml       the resolved configuration           versions.json   of Python and the packages
tokenizer/        of the shards                        encoder.json    sizes of the sentence encoder
metrics.jsonl     one line per logged step             tensorboard/    the same as curves
logs/rank-0.log   what each rank said                  checkpoints/    see checkpoint/store.py
dataset.json      manifest without the list of shards  profile/        traces, where they were asked for
LOCK              held while the run goes on           STOP            to be made by who wants it to save and end
starts.jsonl      one line per start: from which step, on how many ranks, seconds of its parts
latest            step of the newest checkpoint that was ever saved
tracker.json      what a tracker was sent, where there is one; tracker.log: what it printed
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from logging.handlers import MemoryHandler
from pathlib import Path

import yaml

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from data_shards.shards.manifest import Manifest, parse
from spe_dist.config import Config
from spe_dist.engine.world import World
from spe_dist.recipe import config_from_values, config_values, config_yaml
from spe_dist.settings import Difference, differences, differences_text, is_among
from spe_dist.versions import package_versions

LOGGER = logging.getLogger(__name__)

CONFIG, VERSIONS, ENCODER, METRICS = "config.yaml", "versions.json", "encoder.json", "metrics.jsonl"
DATASET, LATEST = "dataset.json", "latest"
TOKENIZER, TENSORBOARD, LOGS, CHECKPOINTS = "tokenizer", "tensorboard", "logs", "checkpoints"
PROFILE = "profile"

# How a run computes, not what: batches, model and results stay the same.
EXECUTION = ("data.cache", "data.workers", "batch.lanes_per_forward", "batch.pieces_per_forward", "cluster", "compute",
             "kernels")  # fmt: skip
# What may differ between a run and its continuation, because the stream of batches and the model stay the same.
_FREE = (*EXECUTION, "run", "data.shards", "encoder.name_or_path", "train", "optimizer.learning_rate")
_FIXED = ("run.seed", "train.precision")
_CHANGES_COURSE = ("train.steps", "optimizer.learning_rate")


def prepare_run_folder(config: Config, *, tokenizer: Path, fingerprint: str, world: World) -> Path:
    """Make or reopen the folder of a run; what has changed since its last start is said in the log.

    Args:
        config: the resolved configuration.
        tokenizer: folder of the shards' tokenizer, copied into the run.
        fingerprint: fingerprint of the dataset; a run cannot go on with another one.
        world: this rank among all.

    Raises:
        UserError: the folder belongs to a run of another configuration or dataset, or cannot be written.
    """
    folder = Path(config.run_folder)
    problem = None
    if world.is_first:
        try:
            with explain_write_errors(folder):
                check_same_run(folder, config, fingerprint)
                _write(folder, config, tokenizer, fingerprint)
        except UserError as error:
            problem = str(error)
        except OSError as error:
            problem = f"cannot write the run folder {folder}: {error.strerror}"
    problem = world.broadcast_object(problem)
    if problem:
        raise UserError(problem)
    return folder


def log_path(folder: Path, world: World) -> Path:
    """Where this rank writes what it has to say."""
    return folder / LOGS / f"rank-{world.rank}.log"


def write_dataset(folder: Path, manifest: Manifest) -> None:
    """Keep what the manifest says of the dataset as a whole: the run may outlive the shards, or be far from them."""
    write_atomically(folder / DATASET, replace(manifest, shardlist=()).to_json().encode())


def read_dataset(folder: Path) -> Manifest:
    """What `write_dataset` wrote.

    Raises:
        UserError: it is missing or malformed.
    """
    try:
        return parse((folder / DATASET).read_bytes(), str(folder / DATASET))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not a complete run: no {DATASET} there; start the run again, which adds it"
        ) from error


def changed_settings(first: Path, second: Path, *, file: str = CONFIG) -> list[Difference]:
    """What two runs differ in; folders and names are left out.

    Raises:
        UserError: one of them is not a run.
    """
    free = ("run.name", "run.folder", "data.shards", "data.cache")
    return differences(_read_values(first / file), _read_values(second / file), free=free)


def check_same_run(folder: Path, config: Config, fingerprint: str) -> None:
    """Check that what a folder holds, if anything, is a run that this configuration goes on with.

    Raises:
        UserError: it is another one.
    """
    if not (folder / CONFIG).exists():
        return
    written = config_from_values(
        _read_values(folder / CONFIG), source=str(folder / CONFIG)
    )  # with settings since added
    changed = differences(config_values(written), config_values(config))
    fixed = [one for one in changed if one.key in _FIXED or not is_among(one.key, _FREE)]
    if fixed:
        raise UserError(
            f"{folder} holds a run of another configuration ({differences_text(fixed)}): give this one its own run.name"
        )
    known = _read_values(folder / VERSIONS)["dataset"]
    if known != fingerprint:
        raise UserError(
            f"{folder} holds a run on another dataset (fingerprint {known[:12]}, now {fingerprint[:12]}): "
            "give this one its own run.name"
        )
    for key, before, now in changed:
        if key in _CHANGES_COURSE:
            LOGGER.warning("%s was %s and is now %s: the rest of the run will differ", key, before, now)
        else:
            LOGGER.info("%s was %s at the last start and is now %s", key, before, now)


def note_saved(folder: Path, step: int) -> None:
    """Remember that there is a checkpoint, for the case that somebody deletes all of them."""
    try:
        write_atomically(folder / LATEST, f"{step}\n".encode())
    except OSError as error:
        LOGGER.warning("cannot write %s: %s", folder / LATEST, error.strerror)


def require_none_saved(folder: Path, where: str | Path, world: World) -> None:
    """A run without a checkpoint begins at step 0, which cuts off its metrics; not if it had a checkpoint.

    Args:
        folder: folder of the run, on this machine.
        where: the run's place, for people.
        world: this rank among all.

    Raises:
        UserError: on every rank, if it had one.
    """
    latest = folder / LATEST
    step = world.broadcast_object(latest.read_text().strip() if world.is_first and latest.exists() else None)
    if step is not None:
        raise UserError(
            f"{where} has saved step {step}, but its checkpoints are gone: restore {where}/{CHECKPOINTS} from a "
            f"backup, give this run its own run.name, or delete {where} to start over"
        )


def _read_values(path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text())  # JSON is YAML too
    except OSError as error:
        raise UserError(f"cannot read {path}, which every run has: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"cannot read {path}, which every run has: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings: restore it from a backup, or give this run its own run.name")
    return values


def _write(folder: Path, config: Config, tokenizer: Path, fingerprint: str) -> None:
    for part in (LOGS, CHECKPOINTS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    _copy_files(tokenizer, folder / TOKENIZER)
    versions = {"dataset": fingerprint, "versions": package_versions()}
    write_atomically(folder / VERSIONS, (json.dumps(versions, indent=2) + "\n").encode())
    write_atomically(folder / CONFIG, config_yaml(config).encode())


def _copy_files(source: Path, target: Path) -> None:
    """Contents alone: shared data is kept read-only, and copies that are would be refused at the next start."""
    for file in filter(Path.is_file, source.rglob("*")):
        copy, content = target / file.relative_to(source), file.read_bytes()
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not (copy.is_file() and copy.read_bytes() == content):
            write_atomically(copy, content)


def hold_log() -> None:
    """Keep what this process has to say until `start_log` says where it goes."""
    _replace_handlers(MemoryHandler(1000, flushLevel=logging.CRITICAL + 1, flushOnClose=False))


def start_log(path: Path) -> None:
    """Write what this process has to say into a file, from now on, and what was held so far."""
    path.parent.mkdir(parents=True, exist_ok=True)  # of a run at a URL, every machine has a folder
    handler = _LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for old in _replace_handlers(handler):
        if isinstance(old, MemoryHandler):
            old.setTarget(handler)
            old.flush()


def _replace_handlers(handler: logging.Handler) -> list[logging.Handler]:
    """The handlers before."""
    logger = logging.getLogger("spe_dist")
    before = logger.handlers[:]
    for old in before:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return before


class _LogFile(logging.FileHandler):
    """A log whose disk may be full for a while: then lines are lost, and nobody is told of each of them."""

    def handleError(self, record: logging.LogRecord) -> None:  # the library's name
        """Not the default, which prints a traceback per line to stderr, where a full pipe would block the rank."""
