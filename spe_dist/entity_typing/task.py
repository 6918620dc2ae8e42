"""Types of given mentions, as a task of fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import write_atomically
from data_shards.text.offset_units import OffsetUnit
from data_shards.text.word_pieces import WordPieces
from spe_dist.entity_typing.config import EntityTypingConfig
from spe_dist.entity_typing.formats import parse_tagged, read_mentions
from spe_dist.entity_typing.model import EntityTypingModel, TypingLabels, decide
from spe_dist.entity_typing.rows import TypingRows, encode
from spe_dist.entity_typing.scoring import EntityTypingScoring
from spe_dist.entity_typing.typed_mention import TypedMention
from spe_dist.finetuning.data import Data
from spe_dist.finetuning.item_task import RowPerItemTask
from spe_dist.finetuning.model_folder import as_json
from spe_dist.models.sentence_encoder import SentenceEncoder

STEM = "entity_typing"
_THRESHOLDS = np.arange(5, 100) / 100


class EntityTyping(RowPerItemTask[TypedMention, TypingLabels]):
    """The types of given mentions.

    Args:
        config: configuration of the fine-tuning.
    """

    config: EntityTypingConfig

    stem = STEM
    description = TypingLabels
    losses = ("types",)
    heads = "classifier of types"
    reads_offsets = True

    @property
    def scoring(self) -> EntityTypingScoring:
        return EntityTypingScoring()

    def read(self, path: Path, *, language: str) -> list[TypedMention]:
        return list(read_mentions(path, language=language, offsets=self.config.data.offsets))

    def read_unlabelled(self, path: Path, *, language: str, offsets: OffsetUnit) -> Iterator[TypedMention]:
        return read_mentions(path, language=language, labelled=False, offsets=offsets)

    def of_text(self, text: str, description: TypingLabels) -> TypedMention:
        return parse_tagged(text, description.language)

    def question(self, item: TypedMention) -> Hashable:
        return item.question[1:]

    def strata(self, item: TypedMention) -> Collection[str]:
        return item.types

    def describe(
        self, available: Sequence[TypedMention], learned: Sequence[TypedMention], *, language: str
    ) -> TypingLabels:
        types = sorted({name for item in available for name in item.types})
        if not types:
            raise UserError(f"{self.config.data.train} has no mention with a type: there is nothing to learn from it")
        return TypingLabels(tuple(types), self.config.model.max_pieces, 0.5, language)

    def new_model(self, description: TypingLabels, encoder: SentenceEncoder) -> EntityTypingModel:
        return EntityTypingModel(encoder, description)

    def same_labels(self, before: Mapping[str, Any], description: TypingLabels) -> bool:
        return before.get("types") == list(description.types)

    def encode(self, items: Sequence[TypedMention], model: EntityTypingModel, word_pieces: WordPieces) -> TypingRows:
        max_pieces = min(model.labels.max_pieces, model.sentence_encoder.max_pieces)
        return encode(items, model.labels.types, word_pieces, max_pieces=max_pieces)

    def predict_batch(
        self, model: EntityTypingModel, items: Sequence[TypedMention], packed: Any, mentions: Any, _: Any
    ) -> Iterator[TypedMention]:
        """The mentions with the types that count, the most probable first, and their probabilities."""
        scores = model.scores(packed, mentions).cpu()
        chosen = decide(scores, model.labels.threshold)
        for item, of_item, kept in zip(items, scores.sigmoid(), chosen, strict=True):
            types = kept.nonzero()[:, 0]
            types = types[of_item[types].argsort(descending=True, stable=True)]
            names = tuple(model.labels.types[number] for number in types.tolist())
            yield item._replace(types=names, scores=tuple(of_item[types].tolist()))

    def finish(
        self,
        folder: Path,
        model: EntityTypingModel,
        dev: Sequence[TypedMention],
        find: Callable[[Sequence[TypedMention]], list[TypedMention]],
    ) -> None:
        if self.config.model.threshold == "dev":
            model.labels = replace(model.labels, threshold=float(_THRESHOLDS[0]))
            threshold = best_threshold(dev, find(dev))
            model.labels = replace(self.read_description(folder), threshold=threshold)
            write_atomically(folder / f"{STEM}.json", as_json(model.labels))

    def about_data(self, data: Data[TypedMention, TypingLabels]) -> list[str]:
        types = set(data.description.types)
        lines = [f"{counted(len(types), 'type')} to learn"]
        for name, items in (("train", data.train), ("dev", data.dev), ("test", data.test or [])):
            if empty := sum(not item.types for item in items):
                lines.append(f"{empty:,} of {len(items):,} {name} mentions have no type; they are kept")
            if unknown := {one for item in items for one in item.types} - types:
                told = f"{counted(len(unknown), 'type')} of {name} cannot be predicted"
                lines.append(f"{told}: not in the training data")
        return lines

    def about_rows(self, rows: TypingRows, description: TypingLabels) -> list[str]:
        return rows.about_cut(description.max_pieces, "mention")


def best_threshold(gold: Sequence[TypedMention], found: Sequence[TypedMention]) -> float:
    """The threshold with the highest macro F1, the lowest of equal ones.

    Args:
        gold: mentions of dev with their gold types.
        found: the same mentions with all types down to the lowest threshold, best first.
    """
    scoring = EntityTypingScoring()
    values = []
    for threshold in _THRESHOLDS:
        kept = []
        for one in found:
            count = max(1, sum(score > threshold for score in one.scores or ()))
            kept.append(one._replace(types=one.types[:count]))
        values.append(scoring.scores(gold, kept)["macro_f1"])
    return float(_THRESHOLDS[int(np.argmax(values))])
