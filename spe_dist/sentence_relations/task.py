"""Relations between two given entities of a sentence, as a task of fine-tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit
from data_shards.text.word_pieces import WordPieces
from spe_dist.finetuning.data import Data
from spe_dist.finetuning.item_task import RowPerItemTask
from spe_dist.finetuning.start import LoadReport, Pretrained
from spe_dist.finetuning.subsets import choose_fraction, choose_of_each_label
from spe_dist.models.saved_encoder import add_rows
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.sentence_relations.config import SentenceRelationsConfig
from spe_dist.sentence_relations.formats import parse_tagged, read_sentences
from spe_dist.sentence_relations.marked_sentence import MarkedSentence
from spe_dist.sentence_relations.model import RelationLabels, SentenceRelationModel
from spe_dist.sentence_relations.rows import MARKERS, RelationRows, encode
from spe_dist.sentence_relations.scoring import SentenceRelationsScoring

STEM = "sentence_relations"
_NONE = "no relation"


class SentenceRelations(RowPerItemTask[MarkedSentence, RelationLabels]):
    """The relation of two given entities of a sentence.

    Args:
        config: configuration of the fine-tuning.
    """

    config: SentenceRelationsConfig

    stem = STEM
    description = RelationLabels
    losses = ("relation",)
    heads = "classifier of relations"

    def __init__(self, config: SentenceRelationsConfig | None) -> None:
        super().__init__(config)
        self._none_labels: set[str | None] = set()

    @property
    def scoring(self) -> SentenceRelationsScoring:
        return SentenceRelationsScoring()

    def read(self, path: Path, *, language: str) -> list[MarkedSentence]:
        none, found = self.config.model.no_relation, list(read_sentences(path, language=language))
        self._none_labels |= {item.relation for item in found if item.relation in none}
        return [item._replace(relation=None) if item.relation in none else item for item in found]

    def read_unlabelled(self, path: Path, *, language: str, offsets: OffsetUnit) -> Iterator[MarkedSentence]:
        return read_sentences(path, language=language, labelled=False)

    def of_text(self, text: str, description: RelationLabels) -> MarkedSentence:
        return parse_tagged(text, description.language)

    def split(self, items: Sequence[MarkedSentence]) -> tuple[list[MarkedSentence], list[MarkedSentence]]:
        data = self.config.data
        chosen = set(choose_fraction([self.strata(item) for item in items], data.dev_share, data.split_seed))
        if len(chosen) == len(items):
            raise UserError(f"{data.train} holds too little to select the best epoch from: name a file (--dev)")
        parts: tuple[list[MarkedSentence], list[MarkedSentence]] = [], []
        for number, item in enumerate(items):
            parts[number in chosen].append(item)
        return parts

    def question(self, item: MarkedSentence) -> Hashable:
        return item.question[1:]

    def strata(self, item: MarkedSentence) -> Collection[str]:
        return (_NONE if item.relation is None else f"relation {item.relation}",)

    def choose(self, items: Sequence[MarkedSentence]) -> list[int]:
        """Indices of ⌈n · fraction⌉ of the n sentences of each relation."""
        labels = [next(iter(self.strata(item))) for item in items]
        return choose_of_each_label(labels, self.config.data.fraction, self.config.run.seed)

    def describe(
        self, available: Sequence[MarkedSentence], learned: Sequence[MarkedSentence], *, language: str
    ) -> RelationLabels:
        relations = {item.relation for item in available}
        model = self.config.model
        if len(relations) < 2:
            raise UserError(
                f"{self.config.data.train} has only one label, so there is nothing to learn: name a file with several"
            )
        names = [label for label in model.no_relation if label in self._none_labels] or [model.no_relation[0]]
        return RelationLabels(
            relations=tuple(sorted(relation for relation in relations if relation is not None)),
            no_relation=names[0] if None in relations else None,
            pooling=model.pooling,
            max_pieces=model.max_pieces,
            language=language,
        )

    def new_model(self, description: RelationLabels, encoder: SentenceEncoder) -> SentenceRelationModel:
        return SentenceRelationModel(encoder, description)

    def build(self, start: Pretrained, description: RelationLabels) -> tuple[SentenceRelationModel, LoadReport]:
        add_rows(start.encoder, start.word_pieces.vocab_size + MARKERS)  # a fine-tuned encoder has them already
        return super().build(start, description)

    def same_labels(self, before: Mapping[str, Any], description: RelationLabels) -> bool:
        names = ("relations", "no_relation", "pooling")
        now = {"relations": list(description.relations), "no_relation": description.no_relation}
        return {name: before.get(name) for name in names} == now | {"pooling": description.pooling}

    def encode(
        self, items: Sequence[MarkedSentence], model: SentenceRelationModel, word_pieces: WordPieces
    ) -> RelationRows:
        labels = model.labels
        max_pieces = min(labels.max_pieces, model.sentence_encoder.max_pieces)
        return encode(items, labels.classes, word_pieces, max_pieces=max_pieces, pooling=labels.pooling)

    def predict_batch(
        self, model: SentenceRelationModel, items: Sequence[MarkedSentence], packed: Any, entities: Any, _: Any
    ) -> Iterator[MarkedSentence]:
        """The sentences with their most probable relation and its probability."""
        scores, classes = model.scores(packed, entities).softmax(1).max(1)
        for item, score, number in zip(items, scores.tolist(), classes.tolist(), strict=True):
            yield item._replace(relation=model.labels.classes[number], score=score)

    def shown(self, item: MarkedSentence, description: RelationLabels) -> dict[str, Any]:
        return super().shown(item._replace(relation=item.relation or description.no_relation), description)

    def about_data(self, data: Data[MarkedSentence, RelationLabels]) -> list[str]:
        counts = Counter(item.relation or data.description.no_relation for item in data.train)
        told = ", ".join(f"{relation} {count}" for relation, count in sorted(counts.items(), key=lambda one: -one[1]))
        lines = [f"{counted(len(counts), 'label')} to learn: {told}"]
        settings = self.config.data
        if settings.dev is None:
            lines.append(
                f"no data.dev is given: {counted(len(data.dev), 'sentence')} of {settings.train} chosen for dev, and "
                f"not learned from ({settings.dev_share:.0%} of each relation, data.split_seed {settings.split_seed})"
            )
        known = set(data.description.classes)
        for name, items in (("dev", data.dev), ("test", data.test or [])):
            unknown = sorted({str(item.relation) for item in items} - set(map(str, known)))
            if unknown:
                lines.append(f"warning: {name} has relations that the training data lack: {', '.join(unknown)}")
        return lines

    def about_rows(self, rows: RelationRows, description: RelationLabels) -> list[str]:
        return rows.about_cut(description.max_pieces, "entities")
