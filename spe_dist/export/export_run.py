"""A run → a folder that `transformers` and `SpanPairModel` load, whole or not there; equal weights give equal bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import nn

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, require_name
from data_shards.shards.manifest import Manifest
from data_shards.text.word_pieces import WordPieces
from spe_dist.checkpoint.reader import LoadedCheckpoint, checkpoint_at, newest_checkpoint
from spe_dist.config import Config
from spe_dist.export.export_format import DESCRIPTION, MODEL_CARD, Description, Weights
from spe_dist.export.model_card import model_card
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.methods.registry import spec_of
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.recipe import load_recipe
from spe_dist.train.line_files import read_json_lines
from spe_dist.train.run_folder import CHECKPOINTS, CONFIG, ENCODER, METRICS, TOKENIZER, VERSIONS, read_dataset

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class TrainedRun:
    """What an export is made of."""

    config: Config
    encoder: PretrainedConfig
    dataset: Manifest
    tokenizer: Path
    fingerprint: str
    versions: dict[str, str]
    checkpoint: LoadedCheckpoint

    @classmethod
    def read(cls, run: Path, *, step: int | None = None) -> TrainedRun:
        """Read a run's folder, which may belong to a run that still goes on.

        Args:
            run: the run's folder.
            step: step of the checkpoint; the newest one that can be used if not given.

        Raises:
            UserError: not a run, or it has no checkpoint (of this step) that can be used.
        """
        if not (run / CONFIG).is_file():
            raise UserError(f"{run} is not a run: no {CONFIG} there; give the folder that `spe pretrain` trained in")
        config = load_recipe(run / CONFIG)
        checkpoint = newest_checkpoint(run / CHECKPOINTS) if step is None else checkpoint_at(run / CHECKPOINTS, step)
        if checkpoint is None:
            raise UserError(
                f"{run} has no finished checkpoint yet: wait for its first one (train.checkpoint_every is "
                f"{config.train.checkpoint_every}), or train on"
            )
        from transformers import AutoConfig

        try:
            about = json.loads((run / VERSIONS).read_text())
            encoder = AutoConfig.from_pretrained(run / ENCODER, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{run} is not a complete run: cannot read its {VERSIONS} and {ENCODER} ({str(error).splitlines()[0]})"
            ) from error
        dataset = read_dataset(run)
        return cls(config, encoder, dataset, run / TOKENIZER, about["dataset"], about["versions"], checkpoint)


def export_run(run: Path, out: Path | None = None, *, weights: Weights = "query", step: int | None = None) -> Path:
    """Write a checkpoint of a run as a Hugging Face folder (see `export/export_format.py` for its files).

    The heads of token boundary and span permutation objective stay behind; BERT's pooler was never there.

    Args:
        run: the run's folder.
        out: the folder to write, RUN/export if not given; an earlier export there is replaced.
        weights: weights of the trained encoder (query), or of its slow average, the key encoder (momentum).
        step: step of the checkpoint; the newest one that can be used if not given.

    Returns:
        The folder written.

    Raises:
        UserError: not a run, no checkpoint, no momentum encoder, or `out` holds something else or cannot be written.
    """
    out = run / "export" if out is None else out
    check_out(out, DESCRIPTION)
    source = TrainedRun.read(run, step=step)
    model = load_model(source, weights)
    with written_whole(out) as unfinished:
        model.save_pretrained(unfinished)
        card = model_card(
            source.config,
            spec_of(source.config).summarize(source.config, source.encoder),
            model.description,
            dataset=source.dataset,
            fingerprint=source.fingerprint,
            versions=source.versions,
            metrics=_last_metrics(run / METRICS, source.checkpoint.step),
        )
        (unfinished / MODEL_CARD).write_text(card, encoding="utf-8")
        for file in unfinished.iterdir():  # safetensors' own are for their owner only
            shutil.copymode(unfinished / MODEL_CARD, file)
    return out


def describe(source: TrainedRun, weights: Weights) -> Description:
    """Which parts the run trained, and their sizes."""
    summary = spec_of(source.config).summarize(source.config, source.encoder)
    return Description(
        method=source.config.method,
        weights=weights,
        step=source.checkpoint.step,
        max_pieces=source.dataset.max_pieces,
        language=source.dataset.language,
        span_encoder=summary.span_encoder,
        context_encoder=summary.context_encoder,
        pair_encoder=summary.pair_encoder,
        head_size=summary.head_size,
        normalize=summary.normalize,
        pooling=summary.pooling,
        markers=summary.markers,
        mask_unit=summary.mask_unit,
    )


def load_model(source: TrainedRun, weights: Weights) -> SpanPairModel:
    """The model of a run's checkpoint.

    Raises:
        UserError: the run has no momentum encoder, or the checkpoint does not fit its configuration.
    """
    description = describe(source, weights)
    has_key_encoder = any(name.startswith("key_encoder.") for name in source.checkpoint.names())
    if weights == "momentum" and not has_key_encoder:
        raise UserError(
            f"{source.checkpoint.folder} has no momentum encoder (only SPE with contrast has one): export the weights "
            "'query'"
        )
    word_pieces = WordPieces.load(str(source.tokenizer), language=description.language)
    model = SpanPairModel(description, new_sentence_encoder(source.encoder), word_pieces)
    _load_weights(model, source.checkpoint, "encoder.{}.master" if weights == "query" else "key_encoder.{}")
    return model


def _load_weights(model: nn.Module, checkpoint: LoadedCheckpoint, names: str) -> None:
    """Copy the tensors of a checkpoint; the model's parameters have the names they have in a method's encoder."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            saved = checkpoint.get(names.format(name))
            if saved.shape != parameter.shape:
                raise UserError(
                    f"{name} has shape {tuple(saved.shape)} in {checkpoint.folder}, {tuple(parameter.shape)} by the "
                    f"run's {CONFIG}: this is not the configuration that the run was trained with"
                )
            parameter.copy_(saved)


def _last_metrics(path: Path, step: int) -> dict[str, float]:
    """The last line of metrics up to a step."""
    known = [metrics for _, metrics in read_json_lines(path, field="step") if metrics["step"] <= step]
    return known[-1] if known else {}


def check_out(out: Path, mark: str) -> None:
    """Raise a UserError if a folder has no name, or other files than an earlier export, which has a file `mark`."""
    require_name(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for the export")
    if out.is_dir() and any(out.iterdir()) and not (out / mark).is_file():
        raise UserError(f"{out} contains other files than an export: name a new or empty folder (--out)")


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A folder to write into that gets the name `out` when all of it is written; an older one stays until then."""
    unfinished, before = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    with explain_write_errors(out.parent):
        # Of a process that was killed here and had the same number, as the first of a container has.
        if before.exists() and not out.exists():
            before.rename(out)
        for left_over in (unfinished, before):
            shutil.rmtree(left_over, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            if out.exists():
                out.rename(before)
            unfinished.rename(out)
        except BaseException as error:
            if before.exists() and not out.exists():
                before.rename(out)
            if isinstance(error, SafetensorError):  # what a full disk is to the safetensors library
                raise UserError(f"cannot write the export to {out.parent}: {error}: free some space there") from error
            raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.rmtree(before, ignore_errors=True)
