"""What is asked: the model of a run, an export, or an encoder that no run has trained yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from data_shards.errors import UserError
from data_shards.shards.reader import ShardReader
from data_shards.text.word_pieces import WordPieces
from spe_dist.config import Config
from spe_dist.export.export_format import DESCRIPTION, Description
from spe_dist.export.export_run import TrainedRun, describe, load_model
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.methods.registry import spec_of
from spe_dist.models.saved_encoder import load_sentence_encoder, new_sentence_encoder, resolve_encoder_config
from spe_dist.models.sizes import PairEncoderSizes
from spe_dist.models.vocabulary_check import require_same_vocabulary
from spe_dist.train.run_folder import CONFIG


@dataclass(frozen=True)
class Subject:
    """A model with a space of contrast."""

    title: str
    model: SpanPairModel
    trained_on: str | None  # fingerprint of its shards, if a run says so
    new_heads: bool  # whether all above its sentence encoder is new

    def untrained(self, *, seed: int) -> SpanPairModel:
        """A model of the same architecture with new weights throughout."""
        encoder = self.model.sentence_encoder
        return _new_model(self.model.description, encoder.model.config, self.model.word_pieces, seed=seed)


def load_subject(name: str, reader: ShardReader, heads: Config, *, seed: int) -> Subject:
    """What a name means, checked against the shards that it is to be asked about.

    Args:
        name: folder of a run or of an export, or folder or name of a Hugging Face encoder.
        reader: of these shards.
        heads: says how large the parts above an encoder are that no run has trained.
        seed: seed of their weights.

    Raises:
        UserError: it means nothing, was not trained by contrast, or has another vocabulary.
    """
    folder = Path(name)
    if (folder / CONFIG).is_file():
        subject = _of_run(folder)
    elif (folder / DESCRIPTION).is_file():
        model = SpanPairModel.from_pretrained(folder)
        _require_contrast(name, model.description)
        subject = Subject(f"{name}, step {model.description.step}", model, None, new_heads=False)
    else:
        subject = _of_encoder(name, reader, heads, seed=seed)
    longest, positions = reader.manifest.max_pieces, subject.model.sentence_encoder.max_pieces
    if longest > positions:
        raise UserError(
            f"{name} has {positions} positions, {reader.location} holds sentences of up to {longest} pieces: "
            f"build the shards with --max-pieces {positions}"
        )
    return subject


def require_tokenizer_of(name: str, reader: ShardReader) -> None:
    """Check that shards were cut with the tokenizer of a run, an export or an encoder.

    Raises:
        UserError: they were not.
    """
    folder = Path(name)
    tokenizer = folder / "tokenizer" if (folder / CONFIG).is_file() else folder
    require_same_vocabulary(str(tokenizer), reader.tokenizer_folder())


def _of_run(folder: Path) -> Subject:
    source = TrainedRun.read(folder)
    _require_contrast(str(folder), describe(source, "query"))
    model = load_model(source, "query").requires_grad_(False)
    return Subject(f"{folder}, step {source.checkpoint.step}", model, source.fingerprint, new_heads=False)


def _of_encoder(name: str, reader: ShardReader, heads: Config, *, seed: int) -> Subject:
    manifest = reader.manifest
    encoder = replace(heads.encoder, name_or_path=name)
    config = resolve_encoder_config(encoder, vocab_size=manifest.tokenizer.vocab_size, max_pieces=manifest.max_pieces)
    summary = spec_of(heads).summarize(heads, config)
    description = Description(
        method=heads.method,
        weights="query",
        step=0,
        max_pieces=manifest.max_pieces,
        language=manifest.language,
        span_encoder=summary.span_encoder,
        pair_encoder=summary.pair_encoder,
        head_size=summary.head_size,
        normalize=summary.normalize,
    )
    model = _new_model(description, config, WordPieces.load(str(reader.tokenizer_folder())), seed=seed)
    model.sentence_encoder = load_sentence_encoder(name, config)
    return Subject(name, model.requires_grad_(False).eval(), None, new_heads=True)


def _new_model(description: Description, config: object, word_pieces: WordPieces, *, seed: int) -> SpanPairModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SpanPairModel(description, new_sentence_encoder(config), word_pieces).requires_grad_(False)


def _require_contrast(name: str, description: Description) -> None:
    if not isinstance(description.pair_encoder, PairEncoderSizes):
        method = "SPE without CSPO" if description.method == "spe" else description.method.upper()
        raise UserError(
            f"{name} was not trained by contrast ({method}): give an SPE run whose cspo.weight is above 0, its "
            "export, or an encoder"
        )
