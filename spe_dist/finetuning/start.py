"""What fine-tuning starts from: a sentence encoder alone, or the encoders of a pre-trained run.

The architecture is the configuration's, whatever the start. A part of the run that has the same sizes gives all its
weights; the others are new, and a report says what was loaded, what is new and what was left out.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from spe_dist.export.export_format import DESCRIPTION, Description
from spe_dist.export.export_run import TrainedRun, load_model
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import Labels
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.extraction.predict.extractor_folder import ExtractorDescription, build_extractor
from spe_dist.finetuning.config import BERT, FinetuneConfig
from spe_dist.finetuning.folder import check_start
from spe_dist.models.sentence_encoder import (
    SentenceEncoder,
    check_encoder_kind,
    load_sentence_encoder_strictly,
    new_sentence_encoder,
    resolve_encoder_config,
    set_dropout,
)
from spe_dist.train.run_folder import read_dataset

_SPAN, _CONTEXT, _PAIR = "span encoder", "context encoder", "span pair encoder"
_CONTEXT_COPY = f"{_CONTEXT} (a copy of the {_SPAN})"
_CLASSIFIERS = "classifiers of spans, types and relations"


@dataclass(frozen=True)
class LoadReport:
    """Where the weights of a model come from."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        rows = (("loaded", self.loaded), ("new", self.new), ("left out", self.left_out))
        return "; ".join(f"{what}: {', '.join(parts) or 'nothing'}" for what, parts in rows)


@dataclass(frozen=True)
class Start:
    """A model before its first update."""

    model: ExtractorModel
    description: ExtractorDescription
    word_pieces: WordPieces
    report: LoadReport


def load_start(config: FinetuneConfig, labels: Labels, constraints: Constraints) -> Start:
    """The model that `config.model`, `config.start` and `config.encoder` describe, for these labels.

    Raises:
        UserError: there is nothing of that name, or its weights are not all there.
    """
    check_start(config)
    config.model.check()
    if config.start.pretrained == BERT:
        return _from_encoder(config, labels, constraints)
    return _from_run(config, labels, constraints, _load_run(Path(config.start.pretrained)))


def language_of_start(config: FinetuneConfig) -> str:
    """Whose rules cut raw text into words, when predicting and where annotated data are raw text.

    Raises:
        UserError: there is nothing of that name.
    """
    check_start(config)
    folder = Path(config.start.pretrained)
    if config.start.pretrained == BERT:
        return config.start.language
    return Description.load(folder).language if (folder / DESCRIPTION).is_file() else read_dataset(folder).language


def _from_encoder(config: FinetuneConfig, labels: Labels, constraints: Constraints) -> Start:
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
    description = _describe(config, labels, constraints, language=config.start.language)
    new: tuple[str, ...] = (_SPAN, _new_context(config), _PAIR, _CLASSIFIERS)
    loaded: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    if name is None:
        encoder = new_sentence_encoder(hf_config)
        new = ("sentence encoder", *new)
    else:
        encoder, unused = load_sentence_encoder_strictly(name, hf_config)
        loaded, left_out = (f"sentence encoder of {name}",), tuple(f"{weight} of {name}" for weight in unused)
    model = build_extractor(description, encoder, dropout=config.model.dropout)
    return Start(model, description, word_pieces, LoadReport(loaded, new, left_out))


def _from_run(config: FinetuneConfig, labels: Labels, constraints: Constraints, run: SpanPairModel) -> Start:
    name = config.start.pretrained
    description = _describe(config, labels, constraints, language=run.description.language)
    model = build_extractor(description, _with_dropout(run.sentence_encoder, config), dropout=config.model.dropout)
    # A run without encoder of contexts reads them with its span encoder, and a copy of it learns to here.
    own_context = run.context_encoder is not None
    parts = {
        _SPAN: (run.span_encoder, model.span_encoder),
        _CONTEXT if own_context else _CONTEXT_COPY: (run.context_encoder or run.span_encoder, model.context_encoder),
        _PAIR: (run.pair_encoder, model.pair_encoder),
    }
    loaded, new, left_out = ["sentence encoder"], [], []
    for part, (trained, fine_tuned) in parts.items():
        fits = trained is not None and _shapes(trained) == _shapes(fine_tuned)
        if trained is not None and fits and not config.start.no_cnn:
            fine_tuned.load_state_dict(trained.state_dict())
            loaded.append(part)
            continue
        new.append(_new_context(config) if part in (_CONTEXT, _CONTEXT_COPY) else part)
        if trained is not None and part != _CONTEXT_COPY:
            left_out.append(f"{part} of {name}" + ("" if fits else " (the model's has other sizes)"))
    left_out += [f"projection head of {name}"] if run.head is not None else []
    where = f"of {name}, step {run.description.step}"
    report = LoadReport(tuple(f"{part} {where}" for part in loaded), (*new, _CLASSIFIERS), tuple(left_out))
    return Start(model, description, run.word_pieces, report)


def _new_context(config: FinetuneConfig) -> str:
    return _CONTEXT_COPY if config.model.context_encoder == config.model.span_encoder else _CONTEXT


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in module.state_dict().items()}


def _load_run(folder: Path) -> SpanPairModel:
    if (folder / DESCRIPTION).is_file():
        return SpanPairModel.from_pretrained(folder)
    return load_model(TrainedRun.read(folder), "query")


def _describe(
    config: FinetuneConfig, labels: Labels, constraints: Constraints, *, language: str
) -> ExtractorDescription:
    return ExtractorDescription(
        entity_types=labels.entity_types,
        relation_types=labels.relation_types,
        architecture=config.model.architecture,
        constraints=constraints,
        language=language,
    )


def _with_dropout(encoder: SentenceEncoder, config: FinetuneConfig) -> SentenceEncoder:
    """The same weights with the dropout of fine-tuning, which a Hugging Face model takes when it is built."""
    hf_config = deepcopy(encoder.model.config)
    set_dropout(hf_config, config.encoder)
    copy = new_sentence_encoder(hf_config)
    copy.load_state_dict(encoder.state_dict())
    return copy
