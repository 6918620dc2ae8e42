"""Questions with given candidates, as a task of fine-tuning."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit
from data_shards.text.word_pieces import WordPieces
from spe_dist.finetuning.data import Data
from spe_dist.finetuning.item_task import RowPerItemTask
from spe_dist.finetuning.start import LoadReport, Pretrained
from spe_dist.models.saved_encoder import add_rows
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.multi_choice.config import MultiChoiceConfig
from spe_dist.multi_choice.model import ChoiceSizes, MultiChoiceModel
from spe_dist.multi_choice.occurrences import nearest_mention
from spe_dist.multi_choice.question import MASK, MASKS, Question, read_questions
from spe_dist.multi_choice.rows import ChoiceRows, encode
from spe_dist.multi_choice.scoring import MultiChoiceScoring

STEM = "multi_choice"


class MultiChoice(RowPerItemTask[Question, ChoiceSizes]):
    """The right one of given candidates.

    Args:
        config: configuration of the fine-tuning.
    """

    config: MultiChoiceConfig

    stem = STEM
    description = ChoiceSizes
    losses = ("answer",)
    heads = "scorer of candidates"

    @property
    def scoring(self) -> MultiChoiceScoring:
        return MultiChoiceScoring()

    def read(self, path: Path, *, language: str) -> list[Question]:
        return list(read_questions(path))

    def read_unlabelled(self, path: Path, *, language: str, offsets: OffsetUnit) -> Iterator[Question]:
        return read_questions(path, labelled=False)

    def of_text(self, text: str, description: ChoiceSizes) -> Question:
        raise UserError("--text: a question has candidates and several texts: write it to a file as WikiHop does")

    def mark(self, items: list[Question], available: Sequence[Question]) -> list[Question]:
        return [item._replace(nearest=nearest_mention(item)) for item in items]

    def question(self, item: Question) -> Hashable:
        return item.query, item.candidates, item.supports

    def strata(self, item: Question) -> Collection[str]:
        return (item.relation,)

    def describe(self, available: Sequence[Question], learned: Sequence[Question], *, language: str) -> ChoiceSizes:
        model = self.config.model
        masks = MASKS if any(map(_is_masked, available)) else 0
        return ChoiceSizes(masks, model.max_pieces, model.max_windows, model.max_query, language)

    def new_model(self, description: ChoiceSizes, encoder: SentenceEncoder) -> MultiChoiceModel:
        return MultiChoiceModel(encoder, description)

    def build(self, start: Pretrained, description: ChoiceSizes) -> tuple[MultiChoiceModel, LoadReport]:
        if description.masks:
            add_rows(start.encoder, start.word_pieces.vocab_size + description.masks)
        return super().build(start, description)

    def same_labels(self, before: Mapping[str, Any], description: ChoiceSizes) -> bool:
        return before.get("masks") == description.masks

    def encode(self, items: Sequence[Question], model: MultiChoiceModel, word_pieces: WordPieces) -> ChoiceRows:
        sizes = model.sizes
        return encode(
            items,
            word_pieces,
            masks=sizes.masks,
            max_pieces=min(sizes.max_pieces, model.sentence_encoder.max_pieces),
            max_windows=sizes.max_windows,
            max_query=sizes.max_query,
        )

    def predict_batch(
        self, model: MultiChoiceModel, items: Sequence[Question], packed: Any, candidates: Any
    ) -> Iterator[Question]:
        """The questions with an answer and the probabilities of candidates; None where no mention was read."""
        for item, logits in zip(items, model.scores(packed, candidates).cpu(), strict=True):
            logits = logits[: len(item.candidates)]
            read = logits > -torch.inf
            probabilities = logits.softmax(0).tolist()
            yield item._replace(
                supports=(),
                answer=item.candidates[int(logits.argmax())] if read.any() else None,
                scores=tuple(p if is_read else None for p, is_read in zip(probabilities, read.tolist(), strict=True)),
                nearest=None,
            )

    def about_data(self, data: Data[Question, ChoiceSizes]) -> list[str]:
        lines = []
        for name, items in (("train", data.train), ("dev", data.dev), ("test", data.test or [])):
            masked = sum(map(_is_masked, items))
            if masked and not data.description.masks:
                lines.append(f"warning: {name} has masked candidates, and the training data have none: fix one of them")
            if not items or name == "train":
                continue
            chance = np.mean([1 / len(item.candidates) for item in items])
            nearest = np.mean([item.nearest == item.answer for item in items])
            lines.append(f"{name}: {chance:.1%} are right by chance, {nearest:.1%} by the nearest mention")
        return lines

    def about_rows(self, rows: ChoiceRows, description: ChoiceSizes) -> list[str]:
        numbers = np.arange(len(rows))
        left_out, windows = rows.windows.left_out, rows.windows.windows.lengths
        lines = [f"{windows.mean():.2f} windows a question, {windows.max()} at most"]
        if cut := int((left_out > 0).sum()):
            lines.append(
                f"{cut:,} of {len(rows):,} training questions have more text than {description.max_windows} windows of "
                f"{rows.max_pieces} pieces hold (model.max_windows, model.max_pieces): the "
                f"pieces after them ({left_out.sum() / cut:,.0f} on average) are not read"
            )
        if cut := int(rows.windows.is_cut.sum()):
            lines.append(f"{counted(cut, 'query')} longer than model.max_query and cut at the end")
        read = np.array([len(np.unique(row[:, 1])) for row in map(rows.occurrences.row, numbers.tolist())])
        candidates = np.array([len(question.candidates) for question in rows.items])
        nowhere, behind = candidates - rows.mentioned, rows.mentioned - read
        if (nowhere + behind).any():
            lines.append(
                f"of {candidates.sum():,} candidates {nowhere.sum():,} are in none of their texts and {behind.sum():,} "
                "only in what is not read: they cannot be chosen"
            )
        if unknown := int((rows.answers(numbers) < 0).sum()):
            lines.append(f"{unknown:,} of {len(rows):,} training questions are left out: their answer is one of these")
        return lines


def _is_masked(question: Question) -> bool:
    return any(MASK.fullmatch(candidate) for candidate in question.candidates)
