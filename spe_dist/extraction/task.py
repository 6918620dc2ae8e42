"""Joint extraction of entities and relations, as a task of fine-tuning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.read import read_annotated
from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from spe_dist.extraction.config import ExtractionConfig
from spe_dist.extraction.data.data_warnings import data_warnings
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import EncodedSentences, Labels, encode_sentences
from spe_dist.extraction.model.extractor_model import LOSSES, ExtractorModel
from spe_dist.extraction.model.scheduled_sampling import GoldDraws, draw_gold, gold_probability
from spe_dist.extraction.predict.extractor_card import extractor_card
from spe_dist.extraction.predict.extractor_folder import (
    STEM,
    ExtractorDescription,
    build_extractor,
    calibrate,
    load_extractor,
)
from spe_dist.extraction.predict.prediction import predict
from spe_dist.extraction.scores.diagnostics import diagnose
from spe_dist.extraction.scores.joint_scoring import JointScoring, write_rules
from spe_dist.extraction.scores.score_quality import fit_calibration
from spe_dist.extraction.scores.type_rules import TypeRules
from spe_dist.finetuning.data import Data
from spe_dist.finetuning.folder import DEV, Result
from spe_dist.finetuning.start import LoadReport, Part, Pretrained
from spe_dist.finetuning.task import Batches, Task
from spe_dist.models.sentence_encoder import SentenceEncoder

LOGGER = logging.getLogger(__name__)

_SPAN, _CONTEXT, _PAIR = "span encoder", "context encoder", "span pair encoder"
_CONTEXT_COPY = f"{_CONTEXT} (a copy of the {_SPAN})"


class JointExtraction(Task[AnnotatedSentence, ExtractorDescription]):
    """Entities and relations of sentences.

    Args:
        config: configuration of the fine-tuning.
    """

    config: ExtractionConfig

    stem = STEM
    description = ExtractorDescription
    losses = LOSSES
    heads = "classifiers of spans, types and relations"

    def __init__(self, config: ExtractionConfig) -> None:
        super().__init__(config)

    @property
    def scoring(self) -> JointScoring:
        return JointScoring()

    def read(self, path: Path, *, language: str) -> list[AnnotatedSentence]:
        sentences, report = read_annotated(path, language=language, offsets=self.config.data.offsets)
        for line in report.lines():
            LOGGER.info(line)
        return sentences

    def strata(self, item: AnnotatedSentence) -> Collection[str]:
        entities = {f"entity {entity.type}" for entity in item.entities}
        return entities | {f"relation {relation.type}" for relation in item.relations}

    def describe(
        self, available: Sequence[AnnotatedSentence], learned: Sequence[AnnotatedSentence], *, language: str
    ) -> ExtractorDescription:
        labels = Labels.of(available)
        if not labels.entity_types:
            raise UserError(f"{self.config.data.train} holds no entities: there is nothing to learn from it")
        return ExtractorDescription(
            entity_types=labels.entity_types,  # of all the training data, whatever the fraction
            relation_types=labels.relation_types,
            architecture=self.config.model.architecture,
            constraints=Constraints.of(learned, types=self.config.model.type_constraints),
            language=language,
        )

    def new_model(self, description: ExtractorDescription, encoder: SentenceEncoder) -> ExtractorModel:
        return build_extractor(description, encoder, dropout=self.config.model.dropout)

    def build(self, start: Pretrained, description: ExtractorDescription) -> tuple[ExtractorModel, LoadReport]:
        model = self.new_model(description, start.encoder)
        same = self.config.model.context_encoder == self.config.model.span_encoder
        # A run without encoder of contexts reads them with its span encoder, and a copy of it learns to here.
        own_context = any(name.startswith("context_encoder.") for name in start.weights)
        trained = any(name.startswith("span_encoder.") for name in start.weights)
        context = Part("context_encoder", _CONTEXT, new=_CONTEXT_COPY if same else _CONTEXT)
        if trained and not own_context:
            context = replace(context, title=_CONTEXT_COPY, source="span_encoder")
        parts = (
            Part("span_encoder", _SPAN),
            context,
            Part("pair_encoder", _PAIR),
            Part("word_shapes", "word shapes", new=None),
        )
        return model, self.load_weights(model, start, description, parts)

    def same_labels(self, before: Mapping[str, Any], description: ExtractorDescription) -> bool:
        kinds = ("entity_types", "relation_types")
        return all(before.get(kind) == list(getattr(description, kind)) for kind in kinds)

    def encode(
        self, items: Sequence[AnnotatedSentence], model: ExtractorModel, word_pieces: WordPieces
    ) -> EncodedSentences:
        return encode_sentences(items, model.labels, word_pieces, max_pieces=model.sentence_encoder.max_pieces)

    def batches(self, rows: EncodedSentences, epoch: int | None, device: torch.device) -> Batches:
        if epoch is None:
            gold = GoldDraws(np.ones(len(rows), dtype=bool), np.ones(len(rows), dtype=bool))
        else:
            sampling = self.config.sampling
            gold = draw_gold(
                len(rows), epoch, seed=self.config.run.seed, gold_epochs=sampling.gold_epochs, k=sampling.k
            )
        return lambda numbers: (rows.batch(numbers).to(device), gold.take(numbers))

    def epoch_metrics(self, epoch: int) -> dict[str, float]:
        sampling = self.config.sampling
        return {"gold_probability": gold_probability(epoch, gold_epochs=sampling.gold_epochs, k=sampling.k)}

    def predict(self, model: ExtractorModel, rows: EncodedSentences, device: torch.device) -> list[AnnotatedSentence]:
        return predict(model, rows, device=device)

    def load(self, folder: Path) -> tuple[ExtractorModel, WordPieces]:
        return load_extractor(folder)

    def finish(
        self,
        folder: Path,
        model: ExtractorModel,
        dev: Sequence[AnnotatedSentence],
        find: Callable[[Sequence[AnnotatedSentence]], list[AnnotatedSentence]],
    ) -> None:
        model.calibration = fit_calibration(dev, find(dev))
        calibrate(folder, model.calibration)

    def keep(self, place: Path, seed: int, learned: Sequence[AnnotatedSentence]) -> None:
        write_rules(place, seed, TypeRules.of(learned))

    def diagnose(
        self,
        gold: Sequence[AnnotatedSentence],
        predicted: Sequence[AnnotatedSentence],
        learned: Sequence[AnnotatedSentence],
    ) -> dict[str, float | None]:
        return diagnose(gold, predicted, TypeRules.of(learned))

    def about_data(self, data: Data[AnnotatedSentence, ExtractorDescription]) -> list[str]:
        labels = data.description.labels
        judged = {DEV: data.dev} | ({} if data.test is None else {"test": data.test})
        return [
            f"entity types: {', '.join(map(repr, labels.entity_types)) or 'none'}",
            f"relation types: {', '.join(map(repr, labels.relation_types)) or 'none'}",
            *data_warnings(labels, data.train, judged),
        ]

    def about_rows(self, rows: EncodedSentences, description: ExtractorDescription) -> list[str]:
        left_out, hint = rows.left_out, ""  # scores of spans, unlike tags, learn entities that overlap
        if description.constraints.overlapping and description.architecture.detector == "spans":
            left_out = replace(left_out, overlapping_entities=0)
        elif description.constraints.overlapping:
            hint = " (model.detector spans finds entities that overlap)"
        return [f"of the training data, the model cannot learn: {left_out}{hint}"]

    def card(
        self, data: Data[AnnotatedSentence, ExtractorDescription], result: Result, versions: Mapping[str, str]
    ) -> str:
        return extractor_card(self.config, data, result, versions)
