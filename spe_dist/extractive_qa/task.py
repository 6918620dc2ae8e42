"""Questions whose answers are spans of a context, as a task of fine-tuning."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit
from data_shards.text.word_pieces import WordPieces
from spe_dist.extractive_qa.config import ExtractiveQaConfig
from spe_dist.extractive_qa.decoding import best_of_questions, best_spans
from spe_dist.extractive_qa.formats import read_questions
from spe_dist.extractive_qa.model import ExtractiveQaModel, QaSettings
from spe_dist.extractive_qa.question import Found, Question
from spe_dist.extractive_qa.rows import QaRows, encode
from spe_dist.extractive_qa.scoring import ExtractiveQaScoring
from spe_dist.finetuning.batches_of_rows import batches_of_rows
from spe_dist.finetuning.item_task import ItemTask
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.recipe import config_values

STEM = "extractive_qa"


class ExtractiveQa(ItemTask[Question, QaSettings]):
    """Answers as spans of a context.

    Args:
        config: configuration of the fine-tuning.
    """

    config: ExtractiveQaConfig

    stem = STEM
    description = QaSettings
    losses = ("answer",)
    heads = "classifier of beginnings and ends"
    alike = "are about a context that is learned from too"

    @property
    def scoring(self) -> ExtractiveQaScoring:
        return ExtractiveQaScoring()

    def read(self, path: Path, *, language: str) -> list[Question]:
        return list(read_questions(path, offsets=self.config.data.offsets))

    def read_unlabelled(self, path: Path, *, language: str, offsets: OffsetUnit) -> Iterator[Question]:
        return read_questions(path, answered=False)

    def of_text(self, text: str, description: QaSettings) -> Question:
        raise UserError(
            '--text is for tasks that read one text: give a question as {"question": "…", "context": "…"}, a line of a '
            "file or of standard input"
        )

    def question(self, item: Question) -> Hashable:
        return item.context

    def describe(self, available: Sequence[Question], learned: Sequence[Question], *, language: str) -> QaSettings:
        return QaSettings(**config_values(self.config)["model"], language=language)

    def new_model(self, description: QaSettings, encoder: SentenceEncoder) -> ExtractiveQaModel:
        return ExtractiveQaModel(encoder, description)

    def same_labels(self, before: Mapping[str, Any], description: QaSettings) -> bool:
        return True  # a beginning is a beginning, however contexts are read

    def encode(self, items: Sequence[Question], model: ExtractiveQaModel, word_pieces: WordPieces) -> QaRows:
        return encode(items, model.settings, word_pieces, max_pieces=model.sentence_encoder.max_pieces)

    @torch.no_grad()
    def predict(
        self, model: ExtractiveQaModel, rows: QaRows, device: torch.device, *, batch_size: int = 256
    ) -> list[Question]:
        """The questions with their best answers and the scores of these: a softmax over these answers."""
        n_best, max_answer = model.settings.n_best, model.settings.max_answer
        sums = np.full((len(rows), n_best), -np.inf)
        spans = np.zeros((len(rows), n_best, 2), dtype=np.int64)  # first and last piece
        for numbers in batches_of_rows(rows.num_pieces, batch_size=batch_size):
            packed, may_be, offsets = rows.candidates(numbers, device)
            best, first, last = best_spans(model.scores(packed), may_be, max_answer=max_answer, n_best=n_best)
            sums[numbers, : best.shape[1]] = best.cpu().numpy()
            places = torch.stack([first, last], dim=2).cpu().numpy()
            spans[numbers, : best.shape[1]] = places + offsets[:, None, None]
        kept, bounds, scores = best_of_questions(rows.windows.question, sums, len(rows.items), n_best)
        question = np.repeat(np.arange(len(rows.items)), np.diff(bounds))
        starts, ends = rows.characters_of(question, spans.reshape(-1, 2)[kept])
        found = []
        for one, begin, end in zip(rows.items, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            answers = zip(starts[begin:end], ends[begin:end], scores[begin:end].tolist(), strict=True)
            found.append(one._replace(found=tuple(Found(one.context[a:b], a, b, score) for a, b, score in answers)))
        return found

    def about_rows(self, rows: QaRows, description: QaSettings) -> list[str]:
        hold = rows.answers_inside(np.arange(len(rows))).any(axis=1)
        lines = [
            f"{len(rows.items):,} questions are read in {len(rows):,} windows; {int((~hold).sum()):,} of these "
            "hold no whole answer and point at [CLS]"
        ]
        never = len(rows.items) - len(np.unique(rows.windows.question[hold]))
        long = int((rows.targets[:, 0, 1] - rows.targets[:, 0, 0] >= description.max_answer).sum())
        for count, what, why in (
            (never, "question", "cannot be learned, as no window holds a whole answer"),
            (long, "answer", f"longer than {description.max_answer} pieces: such answers are never predicted"),
            (int(rows.is_cut.sum()), "question", "too long, and cut off at the end"),
        ):
            lines += [f"{counted(count, what)} {why}"] if count else []
        return lines
