"""Relations between the entities of documents, as a task of fine-tuning."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data_shards.annotated.read import read_documents
from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from spe_dist.document_relations.atlop import OWN_THRESHOLD
from spe_dist.document_relations.card import document_card
from spe_dist.document_relations.config import DocumentRelationsConfig
from spe_dist.document_relations.encoded_documents import EncodedDocuments
from spe_dist.document_relations.folder import (
    STEM,
    DocumentModelDescription,
    build_model,
    keep_threshold,
    load_description,
    load_document_model,
)
from spe_dist.document_relations.graph import DocumentGraph
from spe_dist.document_relations.model import LOSSES, DocumentModel, predict
from spe_dist.document_relations.scoring import DocumentScoring
from spe_dist.document_relations.threshold import best_threshold
from spe_dist.finetuning.data import Data
from spe_dist.finetuning.folder import DEV, MODEL, Result, seed_folder
from spe_dist.finetuning.measures import precision_recall_f1
from spe_dist.finetuning.start import LoadReport, Pretrained
from spe_dist.finetuning.task import Batches, Task
from spe_dist.models.sentence_encoder import SentenceEncoder

LOGGER = logging.getLogger(__name__)


class DocumentRelations(Task[DocumentGraph, DocumentModelDescription]):
    """Relations between the entities of documents, whose mentions are given.

    Args:
        config: configuration of the fine-tuning.
    """

    config: DocumentRelationsConfig

    stem = STEM
    description = DocumentModelDescription
    losses = LOSSES
    heads = "classifier of entity pairs"

    def __init__(self, config: DocumentRelationsConfig) -> None:
        super().__init__(config)
        self._told: set[str] = set()

    @property
    def scoring(self) -> DocumentScoring:
        return DocumentScoring()

    def read(self, path: Path, *, language: str) -> list[DocumentGraph]:
        documents, report = read_documents(path, language=language, offsets=self.config.data.offsets)
        LOGGER.info("%s: %s documents, format %s", path, f"{len(documents):,}", report.format)
        for line in report.lines()[1:]:
            LOGGER.info(line)
        return [DocumentGraph.of(document, language=language) for document in documents]

    def mark(self, items: list[DocumentGraph], available: Sequence[DocumentGraph]) -> list[DocumentGraph]:
        known = {named for item in available for named in item.named_facts()}
        return [item.marked(known) for item in items]

    def question(self, item: DocumentGraph) -> Hashable:
        return item.title, item.document and item.document.text

    def describe(
        self, available: Sequence[DocumentGraph], learned: Sequence[DocumentGraph], *, language: str
    ) -> DocumentModelDescription:
        relations = sorted({edge.type for item in available for edge in item.edges})
        if not relations:
            raise UserError(f"{self.config.data.train} holds no relations: there is nothing to learn from it")
        model = self.config.model
        of_head: dict[str, Any] = (
            {
                "block_size": model.block_size,
                "max_labels": model.max_labels,
                "markers": model.markers or "star",
                "threshold": OWN_THRESHOLD,
            }
            if model.head == "atlop"
            else {"distance_size": model.distance_size, "markers": model.markers or "none"}
        )
        return DocumentModelDescription(
            relations=tuple(relations),  # of all the training data, whatever the fraction
            head=model.head,
            entity_size=model.entity_size,
            language=language,
            **of_head,
        )

    def new_model(self, description: DocumentModelDescription, encoder: SentenceEncoder) -> DocumentModel:
        return build_model(description, encoder)

    def build(self, start: Pretrained, description: DocumentModelDescription) -> tuple[DocumentModel, LoadReport]:
        before = (start.description or {}).get("markers") == "numbered"  # of a fine-tuned model
        if description.markers == "numbered" and not (start.markers or before):
            raise UserError(
                f"model.markers is numbered, but {start.name} was not pre-trained with markers (an ERICA run with "
                "pooling: marker): remove the setting, or start from such a run"
            )
        return super().build(start, description)

    def same_labels(self, before: Mapping[str, Any], description: DocumentModelDescription) -> bool:
        return before.get("relations") == list(description.relations)

    def encode(self, items: Sequence[DocumentGraph], model: DocumentModel, word_pieces: WordPieces) -> EncodedDocuments:
        rows = model.encode(items, word_pieces)
        told = rows.about_windows(model.sentence_encoder.max_pieces)
        if told and told not in self._told:
            self._told.add(told)  # dev is encoded twice
            LOGGER.info(told)
        return rows

    def batches(self, rows: EncodedDocuments, epoch: int | None, device: torch.device) -> Batches:
        unrelated, seed = self.config.pairs.unrelated, self.config.run.seed

        def batch(numbers: Any) -> tuple[Any, ...]:
            pairs = [rows.draw_pairs(row, unrelated=unrelated, seed=seed, epoch=epoch or 0) for row in numbers.tolist()]
            return (rows.batch(numbers, pairs).to(device),)

        return batch

    def predict(self, model: DocumentModel, rows: EncodedDocuments, device: torch.device) -> list[DocumentGraph]:
        return predict(model, rows, device)

    def decide(self, gold: Sequence[DocumentGraph], predicted: list[DocumentGraph]) -> list[DocumentGraph]:
        if self.config.model.head == "atlop":
            return predicted
        threshold = best_threshold(gold, predicted)
        return [one.decided(threshold) for one in predicted]

    def load(self, folder: Path) -> tuple[DocumentModel, WordPieces]:
        return load_document_model(folder)

    def finish(
        self,
        folder: Path,
        model: DocumentModel,
        dev: Sequence[DocumentGraph],
        find: Callable[[Sequence[DocumentGraph]], list[DocumentGraph]],
    ) -> None:
        if self.config.model.head == "atlop":
            return
        model.threshold = None  # a run that was killed here before has chosen one already
        model.threshold = best_threshold(dev, find(dev))
        keep_threshold(folder, model.threshold)
        LOGGER.info("relations with a score of %.4f or more are predicted: F1 of dev is highest there", model.threshold)

    def diagnose(
        self, gold: Sequence[DocumentGraph], predicted: Sequence[DocumentGraph], learned: Sequence[DocumentGraph]
    ) -> dict[str, float | None]:
        counts = self.scoring.contributions(gold, predicted)["relation_f1"].sum(0)
        precision, recall, _ = precision_recall_f1(counts)
        known = sum(edge.in_train for item in gold for edge in item.edges)
        return {
            "precision": float(precision),
            "recall": float(recall),
            "facts_in_train": known / int(counts[2]) if counts[2] else None,
        }

    def about_data(self, data: Data[DocumentGraph, DocumentModelDescription]) -> list[str]:
        relations = data.description.relations
        lines = [f"{counted(len(relations), 'relation')}: {', '.join(map(repr, relations))}"]
        parts = {"train": data.train, DEV: data.dev} | ({} if data.test is None else {"test": data.test})
        for part, items in parts.items():
            edges = [(item, edge) for item in items for edge in item.edges]
            single = sum(item.is_single(edge) for item, edge in edges)
            lines.append(
                f"{part}: {sum(len(item.nodes) for item in items):,} entities, {len(edges):,} relations, "
                f"{single:,} of them within a sentence"
            )
            if part == "train":
                continue
            unknown = Counter(edge.type for _, edge in edges if edge.type not in data.description.relations)
            if unknown:
                names = ", ".join(f"{name!r} ({count})" for name, count in unknown.most_common(5))
                lines.append(
                    f"warning: {part} has relations that the training data do not have, which count as not found: "
                    f"{names}"
                )
        return lines

    def about_rows(self, rows: EncodedDocuments, description: DocumentModelDescription) -> list[str]:
        lines = []
        if self.config.pairs.unrelated is not None and (empty := rows.without_related_pairs()):
            lines.append(f"nothing is learned from {empty} of {len(rows)} training documents, which have no relation")
        if lost := rows.lost_facts():
            lines.append(
                f"of the training data, the model cannot learn {counted(lost, 'relation')}: of an entity without words "
                "that the tokenizer knows, or with itself"
            )
        return lines

    def card(
        self,
        data: Data[DocumentGraph, DocumentModelDescription],
        result: Result,
        versions: Mapping[str, str],
    ) -> str:
        return document_card(self.config, data, result, versions, load_description(seed_folder(self.config) / MODEL))
