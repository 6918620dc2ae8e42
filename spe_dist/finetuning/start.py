"""What fine-tuning starts from: a sentence encoder alone, a pre-trained run or its export, or a fine-tuned model.

The architecture is the configuration's, whatever the start. A part that has the same sizes gives all its weights; the
others are new, and a report says what was loaded, what is new and what was left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from data_shards.errors import UserError
from data_shards.files import sha256_of
from data_shards.text.word_pieces import WordPieces
from spe_dist.config import EncoderConfig
from spe_dist.export.export_format import DESCRIPTION, Description
from spe_dist.export.export_run import TrainedRun, load_model
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.finetuning.config import BERT, FinetuneConfig
from spe_dist.finetuning.folder import Origin, check_start
from spe_dist.finetuning.model_folder import read_parts
from spe_dist.finetuning.model_stem import read_description, stem_of
from spe_dist.models.architectures import set_dropout
from spe_dist.models.saved_encoder import (
    check_encoder_kind,
    load_sentence_encoder_strictly,
    new_sentence_encoder,
    resolve_encoder_config,
    tell_how_it_runs,
)
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.train.run_folder import read_dataset

if TYPE_CHECKING:
    from spe_dist.finetuning.task import Task

_ENCODER = "sentence encoder"
_TITLES = {
    "span_encoder": "span encoder",
    "context_encoder": "context encoder",
    "pair_encoder": "span pair encoder",
    "head": "projection head",
}


@dataclass(frozen=True)
class LoadReport(Origin):
    """Where the weights of a model come from.

    Args:
        source: which weights were loaded, for people.
        left_out: what the source has and the model has not taken, and why.
    """

    source: str
    left_out: tuple[str, ...]

    @property
    def origin(self) -> Origin:
        """The report without names of folders."""
        return Origin(self.kind, self.loaded, self.new)

    def __str__(self) -> str:
        loaded = tuple(f"{part} of {self.source}" for part in self.loaded)
        rows = (("loaded", loaded), ("new", self.new), ("left out", self.left_out))
        return "; ".join(f"{what}: {', '.join(parts) or 'nothing'}" for what, parts in rows)


@dataclass(frozen=True)
class Pretrained:
    """What a model may begin as.

    Args:
        name: what was named, or "bert".
        where: which weights of it, for people.
        kind: what it is: "encoder", "run" or "fine-tuned model".
        encoder: with the dropout of fine-tuning.
        encoder_is_new: whether it has weights that nobody trained.
        word_pieces: tokenizer of the encoder.
        language: whose rules cut text into words.
        weights: weights of all other parts, by name.
        unused: names of weights that the encoder has no place for.
        markers: whether the encoder was pre-trained with ERICA's entity markers.
        stem: file stem of the task of a fine-tuned model; None of all others.
        description: description of a fine-tuned model, as it lies in its folder.
    """

    name: str
    where: str
    kind: str
    encoder: SentenceEncoder
    word_pieces: WordPieces
    language: str
    encoder_is_new: bool = False
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    markers: bool = False
    stem: str | None = None
    description: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Part:
    """A module of a model that may begin with trained weights.

    Args:
        module: its name in the model.
        title: for people.
        source: name of the module whose weights it takes; its own if not given.
        new: what it is called where its weights are new; None if nobody need be told.
    """

    module: str
    title: str
    source: str = ""
    new: str | None = ""


@dataclass(frozen=True)
class Start:
    """A model before its first update."""

    model: Any
    description: Any
    word_pieces: WordPieces
    report: LoadReport


def language_of_start(config: FinetuneConfig) -> str:
    """Whose rules cut raw text into words, when predicting and where annotated data are raw text.

    Raises:
        UserError: there is nothing of that name.
    """
    check_start(config)
    folder = Path(config.start.pretrained)
    if config.start.pretrained == BERT:
        return config.start.language
    stem = stem_of(folder)
    if stem is not None:
        return read_description(folder, stem)["language"]
    return Description.load(folder).language if (folder / DESCRIPTION).is_file() else read_dataset(folder).language


def open_start(config: FinetuneConfig) -> Pretrained:
    """What `config.start` and `config.encoder` name.

    Raises:
        UserError: there is nothing of that name, or its weights are not all there.
    """
    check_start(config)
    if config.start.pretrained == BERT:
        return _bert(config)
    name, folder = config.start.pretrained, Path(config.start.pretrained)
    stem = stem_of(folder)
    if stem is not None:
        description = read_description(folder, stem)
        encoder, word_pieces, weights = read_parts(folder, stem, language=description["language"])
        return Pretrained(
            name=name,
            kind="fine-tuned model",
            where=f"{name}, {stem} {sha256_of((folder / f'{stem}.safetensors').read_bytes())[:8]}",
            encoder=_with_dropout(encoder, config.encoder),
            word_pieces=word_pieces,
            language=description["language"],
            weights=weights,
            stem=stem,
            description=description,
        )
    run = _load_run(folder)
    return Pretrained(
        name=name,
        kind="run",
        where=f"{name}, step {run.description.step}",
        encoder=_with_dropout(run.sentence_encoder, config.encoder),
        word_pieces=run.word_pieces,
        language=run.description.language,
        markers=run.description.markers,
        weights={name: w for name, w in run.state_dict().items() if not name.startswith("sentence_encoder.")},
    )


def load_start(task: Task[Any, Any], description: Any) -> Start:
    """The task's model before its first update.

    Raises:
        UserError: there is nothing of the start's name, or its weights are not all there.
    """
    pretrained = open_start(task.config)
    model, report = task.build(pretrained, description)
    return Start(model, description, pretrained.word_pieces, report)


def load_weights(
    model: nn.Module, start: Pretrained, parts: Sequence[Part], *, alone: bool, heads: str, refused: str | None
) -> LoadReport:
    """Give a new model the weights that it may begin with; its sentence encoder has them already.

    Args:
        model: is changed.
        start: gives weights.
        parts: parts of the model that pre-training trains too.
        alone: whether the sentence encoder's weights are the only ones to take.
        heads: what the rest of the model is called.
        refused: why the rest takes no weights of a fine-tuned model; None: it takes them if they have its sizes.
    """
    loaded: list[str] = [] if start.encoder_is_new else [_ENCODER]
    new: list[str] = [_ENCODER] if start.encoder_is_new else []
    left_out: list[str] = []
    for part in parts:
        source = part.source or part.module
        module, trained = getattr(model, part.module), _of_modules(start.weights, {source}, prefix=f"{source}.")
        fits = bool(trained) and module is not None and _shapes(module.state_dict()) == _shapes(trained)
        if fits and not alone:
            module.load_state_dict(trained)
            loaded.append(part.title)
            continue
        if module is not None and part.new is not None:
            new.append(part.new or part.title)
        if trained and source == part.module:
            left_out.append(f"{part.title} of {start.name}" + ("" if fits else " (the model's has other sizes)"))
    known = {part.module for part in parts}
    trained = _of_modules(start.weights, {module for module in map(_module, start.weights) if module not in known})
    rest = _of_modules(
        model.state_dict(), {_module(name) for name in model.state_dict()} - known - {"sentence_encoder"}
    )
    if refused is None and _shapes(rest) != _shapes(trained):
        refused = "the model's have other sizes"
    if start.stem is not None and refused is None:
        model.load_state_dict(trained, strict=False)
        loaded.append(heads)
    else:
        new += [heads] if rest else []
        modules = dict.fromkeys(map(_module, trained))
        left_out += [f"{_TITLES[module]} of {start.name}" for module in modules if module in _TITLES]
        if any(module not in _TITLES for module in modules):
            left_out.append(f"classifiers of {start.name} ({refused})")
    left_out += [f"{weight} of {start.name}" for weight in start.unused]
    return LoadReport(start.kind, tuple(loaded), tuple(new), start.where, tuple(left_out))


def _module(name: str) -> str:
    """The module of the model that a weight belongs to, by their names."""
    return name.partition(".")[0]


def _of_modules(weights: Mapping[str, Tensor], modules: set[str], *, prefix: str = "") -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if _module(name) in modules}


def _bert(config: FinetuneConfig) -> Pretrained:
    if config.start.no_cnn:
        raise UserError(
            f'start.no_cnn leaves out parts of a run, and start.pretrained is "{BERT}": name a run (--from)'
        )
    name = config.encoder.name_or_path
    tokenizer = config.start.tokenizer or name
    assert tokenizer is not None  # check_start
    if name is not None:
        check_encoder_kind(config.encoder)
    word_pieces = WordPieces.load(tokenizer, language=config.start.language)
    hf_config = resolve_encoder_config(config.encoder, vocab_size=word_pieces.vocab_size, tokenizer=tokenizer)
    tell_how_it_runs(hf_config)
    unused: tuple[str, ...] = ()
    if name is None:
        encoder = new_sentence_encoder(hf_config)
    else:
        encoder, left_out = load_sentence_encoder_strictly(name, hf_config)
        unused = tuple(left_out)
    return Pretrained(
        name=name or BERT,
        where=name or BERT,
        kind="encoder",
        encoder=encoder,
        encoder_is_new=name is None,
        word_pieces=word_pieces,
        language=config.start.language,
        unused=unused,
    )


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _load_run(folder: Path) -> SpanPairModel:
    if (folder / DESCRIPTION).is_file():
        return SpanPairModel.from_pretrained(folder)
    return load_model(TrainedRun.read(folder), "query")


def _with_dropout(encoder: SentenceEncoder, config: EncoderConfig) -> SentenceEncoder:
    """The same weights with the dropout of fine-tuning, which a Hugging Face model takes when it is built."""
    hf_config = deepcopy(encoder.model.config)
    set_dropout(hf_config, config)
    copy = new_sentence_encoder(hf_config)
    copy.load_state_dict(encoder.state_dict())
    return copy
