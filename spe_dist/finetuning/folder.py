"""The folder of a fine-tuning; seeds share what scores are made of, and keep the rest apart.

RUN/predictions/      gold test data and what each seed's best epoch found in it (see predictions.py)
RUN/scores/           scores of all seeds on test: scores.txt, scores.json, scores.png
RUN/dev/              predictions/ and scores/ of dev
RUN/seed-1/           config.yaml  versions.json  result.json  metrics.jsonl  tensorboard/  finetune.log
                      inputs.json    SHA-256 of the data, and what the weights began as
                      subset.json    which training data were learned from, if not all of them
                      model/         the best epoch's model (see model_folder.py)
                      checkpoints/   what a killed run goes on from; gone when it is over
                      LOCK           held while the run goes on
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, sha256_of, write_atomically
from spe_dist.export.export_format import DESCRIPTION
from spe_dist.finetuning.config import BERT, FinetuneConfig
from spe_dist.finetuning.model_stem import models_below, stem_of
from spe_dist.finetuning.predictions import FOLDER as PREDICTIONS
from spe_dist.recipe import checked_config, config_values
from spe_dist.settings import Difference, differences, differences_text, flatten
from spe_dist.train.run_folder import CHECKPOINTS, CONFIG, METRICS, VERSIONS, start_log
from spe_dist.versions import package_versions

DEV, MODEL, RESULT, LOG = "dev", "model", "result.json", "finetune.log"
SUBSET, INPUTS = "subset.json", "inputs.json"
# What may differ between a run and its continuation: where it is, what it is called, and where and with whom it trains.
FREE = {"run.name", "run.folder", "run.seed", "run.track", "seeds", "cluster.parallel", "cluster.gpus_per_seed",
        "cluster.address", "cluster.allow_unauthenticated"}  # fmt: skip
_SIZES_OF_A_NEW_ENCODER = ("layers", "hidden_size", "heads", "intermediate_size", "max_positions")


@dataclass(frozen=True)
class Origin:
    """What the parts of a model began as, in words that name no folder.

    Args:
        kind: what gave weights: "encoder", "run" or "fine-tuned model".
        loaded: parts that began with its weights.
        new: parts that began with new ones.
    """

    kind: str
    loaded: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """How a fine-tuning of one seed ended.

    Args:
        seed: seed of the run.
        epochs: trained.
        best_epoch: the one that was kept, counted from 1.
        dev: scores of the best epoch by measure, in 0..1.
        test: the same on test; None if there was no test data.
        diagnostics: diagnostics of "dev" and "test", what `Task.diagnose` finds.
        start: what the weights began as; None in files from before it was kept.
    """

    seed: int
    epochs: int
    best_epoch: int
    dev: dict[str, float]
    test: dict[str, float] | None
    diagnostics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    start: Origin | None = None


def seed_folder(config: FinetuneConfig) -> Path:
    """The folder of this run's seed."""
    return Path(config.run_folder) / f"seed-{config.run.seed}"


def settings_in_use(config: FinetuneConfig) -> dict[str, Any]:
    """What config.yaml says: an encoder that has sizes of its own is not given others, and an unused one no name."""
    values = config_values(config)
    if config.start.pretrained != BERT:
        values["encoder"]["name_or_path"] = None
    if config.start.pretrained != BERT or config.encoder.name_or_path is not None:
        for name in _SIZES_OF_A_NEW_ENCODER:
            del values["encoder"][name]
    return values


def prepare_folder(config: FinetuneConfig) -> None:
    """Make or reopen the folder of a seed, and start its log.

    Raises:
        UserError: it holds a run of another configuration, or cannot be written.
    """
    folder = seed_folder(config)
    check_same_run(config)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / CONFIG, yaml.safe_dump(settings_in_use(config), sort_keys=False).encode())
        _write_inputs(folder, _read_inputs(folder) | _data_digests(config))
        write_atomically(folder / VERSIONS, (json.dumps({"versions": package_versions()}, indent=2) + "\n").encode())
        start_log(folder / LOG)


def write_result(config: FinetuneConfig, result: Result) -> None:
    """Say that the run is over."""
    write_atomically(seed_folder(config) / RESULT, (json.dumps(asdict(result), indent=2) + "\n").encode())


def read_result(config: FinetuneConfig) -> Result | None:
    """What `write_result` wrote; None if the run is not over."""
    path = seed_folder(config) / RESULT
    return TypeAdapter(Result).validate_python(json.loads(path.read_text())) if path.is_file() else None


def format_result(result: Result) -> str:
    """One line for people."""
    parts = [f"seed {result.seed}: best after epoch {result.best_epoch} of {result.epochs}"]
    for name, scores in ((DEV, result.dev), ("test", result.test)):
        if scores is not None:
            parts.append(f"{name} " + ", ".join(f"{measure} {100 * value:.2f}" for measure, value in scores.items()))
    return "; ".join(parts)


def remove_models(seeds: Sequence[FinetuneConfig]) -> None:
    """Remove the models of fine-tunings that are over: those of hundreds fill a disk, and scores do not need them.

    Args:
        seeds: each of one seed.
    """
    for seed in seeds:
        if read_result(seed) is not None:
            shutil.rmtree(seed_folder(seed) / MODEL, ignore_errors=True)


def write_subset(config: FinetuneConfig, chosen: Sequence[int], available: int, items: str) -> None:
    """Keep which training data a seed learns from.

    Args:
        config: configuration of the run.
        chosen: numbers of items in the training data, from 0.
        available: items of the training data.
        items: what they are.
    """
    subset = {"fraction": config.data.fraction, items: len(chosen), "of": available, "numbers": list(chosen)}
    write_atomically(seed_folder(config) / SUBSET, (json.dumps(subset) + "\n").encode())


def check_start(config: FinetuneConfig) -> None:
    """Look whether there is what the weights are to begin as, before anything is loaded.

    Raises:
        UserError: no encoder is named, or the folder of the run holds none.
    """
    folder = Path(config.start.pretrained)
    if config.start.pretrained == BERT:
        if config.encoder.name_or_path is None and config.start.tokenizer is None:
            raise UserError(
                "--from bert, but no encoder: name one (--encoder NAME), start from a run (--from RUN), or give a new "
                "encoder a tokenizer (--start.tokenizer VOCABULARY)"
            )
        return
    from spe_dist.models.exported_encoders import is_exported  # with torch, which those that read scores do without

    if is_exported(folder):
        raise UserError(
            f"start.pretrained: {folder} is an export for fast prediction on CPUs: name the model that it was made of"
        )
    if (folder / DESCRIPTION).is_file() or stem_of(folder) is not None:
        return
    models = models_below(folder)
    if models:
        raise UserError(
            f"start.pretrained: {folder} is the folder of a fine-tuning, whose models are "
            f"{', '.join(map(str, models[:3]))}: name one of them"
        )
    if not (folder / CONFIG).is_file():
        if (folder / "config.json").is_file():
            raise UserError(f"start.pretrained: {folder} is an encoder alone: give --from {BERT} --encoder {folder}")
        raise UserError(
            f"start.pretrained: {folder} is neither a run (no {CONFIG}) nor an exported model (no {DESCRIPTION}) nor a "
            f'fine-tuned one: name the folder of a run, its export, a RUN/seed-N/{MODEL}, or "{BERT}" for an encoder '
            "alone"
        )


def check_same_run(config: FinetuneConfig) -> None:
    """Compare with what the folders of the run's seeds hold: all of them differ in nothing but the seed.

    Raises:
        UserError: one of them holds a run of another configuration, or of data that have changed since; or is gone,
            but its predictions are not.
    """
    run = Path(config.run_folder)
    for predictions in sorted((run / PREDICTIONS).glob("seed-*.jsonl")):
        if not (run / predictions.stem).is_dir():
            raise UserError(
                f"{predictions} would be scored with this run, but its folder {predictions.stem} is missing, which "
                "holds its configuration: remove it, or give this fine-tuning its own --name"
            )
    now, data = settings_in_use(config), _data_digests(config)
    unused = flatten(config_values(config)).keys() - flatten(now).keys()
    if config.start.pretrained != BERT:
        unused.add("encoder.name_or_path")
    for folder in _trained_seeds(config):
        written = yaml.safe_load((folder / CONFIG).read_text())
        if written.get("task", config.task) != config.task:
            changed = [Difference("task", written["task"], config.task)]
        else:  # with settings since added, which had their defaults
            before = config_values(checked_config(type(config), written, source=str(folder / CONFIG)))
            changed = differences(before, now, free=FREE | unused)
        if changed:
            raise UserError(
                f"{folder} holds a fine-tuning of another configuration ({differences_text(changed)}): "
                "give this one its own --name"
            )
        known = _read_inputs(folder)
        other = [key for key, digest in data.items() if known.get(key, digest) != digest]
        if other:
            raise UserError(
                f"{folder} holds a fine-tuning of other data: {', '.join(other)} has changed since; "
                "give this one its own --name"
            )


def check_same_start(config: FinetuneConfig, start: str) -> None:
    """Compare what the weights begin as with the other seeds of the run: a pre-training may have gone on since.

    A seed that goes on from a checkpoint has begun already.

    Args:
        config: configuration of the seed.
        start: what is loaded, in words, and of which step.

    Raises:
        UserError: another seed began from other weights.
    """
    own = seed_folder(config)
    if any((own / CHECKPOINTS).glob("step-*")):
        return
    for folder in _trained_seeds(config):
        before = _read_inputs(folder).get("start", start)
        if folder != own and before != start:
            raise UserError(
                f"{folder} started from other weights ({before}; now {start}): give this fine-tuning its own "
                "run.name, and start from an export, which does not change while pre-training goes on"
            )
    _write_inputs(own, _read_inputs(own) | {"start": start})


def _trained_seeds(config: FinetuneConfig) -> list[Path]:
    """Folders of the run's seeds in which something was trained: before that, a wrong path can be corrected."""
    seeds = sorted(Path(config.run_folder).glob("seed-*"))
    return [folder for folder in seeds if (folder / METRICS).is_file() and (folder / METRICS).stat().st_size]


def _data_digests(config: FinetuneConfig) -> dict[str, str]:
    """SHA-256 of the files that are there; reading them tells what is wrong with the others."""
    files = {"data.train": config.data.train, "data.dev": config.data.dev, "data.test": config.data.test}
    return {key: sha256_of(Path(file).read_bytes()) for key, file in files.items() if file and Path(file).is_file()}


def _read_inputs(folder: Path) -> dict[str, str]:
    path = folder / INPUTS
    return json.loads(path.read_text()) if path.is_file() else {}


def _write_inputs(folder: Path, inputs: dict[str, str]) -> None:
    write_atomically(folder / INPUTS, (json.dumps(inputs, indent=2) + "\n").encode())
