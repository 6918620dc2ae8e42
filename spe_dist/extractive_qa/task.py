"""Questions whose answers are spans of a context, as a task of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_shards.text.word_pieces import WordPieces
from spe_dist.extractive_qa.config import ExtractiveQaConfig
from spe_dist.extractive_qa.decoding import best_of_questions, best_spans
from spe_dist.extractive_qa.formats import read_questions
from spe_dist.extractive_qa.model import ExtractiveQaModel, QaSettings
from spe_dist.extractive_qa.question import Found, Question
from spe_dist.extractive_qa.rows import QaRows, encode
from spe_dist.extractive_qa.scoring import ExtractiveQaScoring
from spe_dist.finetuning.batches_of_rows import batches_of_rows
from spe_dist.finetuning.data import Data
from spe_dist.finetuning.task import Batches, Task
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.recipe import config_values

STEM = "extractive_qa"


class ExtractiveQa(Task[Question, QaSettings]):
    """Answers as spans of a context.

    Args:
        config: of the fine-tuning.
    """

    config: ExtractiveQaConfig

    stem = STEM
    description = QaSettings
    losses = ("answer",)
    heads = "classifier of beginnings and ends"

    def __init__(self, config: ExtractiveQaConfig) -> None:
        super().__init__(config)

    @property
    def scoring(self) -> ExtractiveQaScoring:
        return ExtractiveQaScoring()

    def read(self, path: Path, *, language: str) -> list[Question]:
        return read_questions(path)

    def describe(self, available: Sequence[Question], learned: Sequence[Question], *, language: str) -> QaSettings:
        return QaSettings(**config_values(self.config)["model"], language=language)

    def new_model(self, description: QaSettings, encoder: SentenceEncoder) -> ExtractiveQaModel:
        return ExtractiveQaModel(encoder, description)

    def same_labels(self, before: Mapping[str, Any], description: QaSettings) -> bool:
        return True  # a beginning is a beginning, however contexts are read

    def encode(self, items: Sequence[Question], model: ExtractiveQaModel, word_pieces: WordPieces) -> QaRows:
        return encode_for(items, model, word_pieces)

    def batches(self, rows: QaRows, epoch: int | None, device: torch.device) -> Batches:
        return lambda numbers: rows.batch(numbers, device)

    def predict(self, model: ExtractiveQaModel, rows: QaRows, device: torch.device) -> list[Question]:
        return predict(model, rows, device)

    def about_data(self, data: Data[Question, QaSettings]) -> list[str]:
        learned, lines = {item.context for item in data.train}, []
        for name, items in (("dev", data.dev), ("test", data.test or [])):
            if shared := sum(item.context in learned for item in items):
                lines.append(
                    f"warning: {shared:,} of {len(items):,} {name} questions are about a context that is learned from "
                    "too, which makes scores too good: split the data by article (spe data split)"
                )
        return lines

    def about_rows(self, rows: QaRows, description: QaSettings) -> list[str]:
        hold = rows.answers_inside(np.arange(len(rows))).any(axis=1)
        lines = [
            f"{len(rows.questions):,} questions are read in {len(rows):,} windows; {int((~hold).sum()):,} of these "
            "hold no whole answer and point at [CLS]"
        ]
        never = len(rows.questions) - len(np.unique(rows.windows.question[hold]))
        long = int((rows.targets[:, 0, 1] - rows.targets[:, 0, 0] >= description.max_answer).sum())
        for count, what in (
            (never, "questions cannot be learned, as no window holds a whole answer"),
            (long, f"answers are longer than {description.max_answer} pieces: such answers are never predicted"),
            (int(rows.windows.is_cut.sum()), "questions are too long: their ends are cut off"),
        ):
            lines += [f"{count:,} {what}"] if count else []
        return lines


def encode_for(questions: Sequence[Question], model: ExtractiveQaModel, word_pieces: WordPieces) -> QaRows:
    """Questions as a model reads them."""
    return encode(questions, model.settings, word_pieces, max_pieces=model.sentence_encoder.max_pieces)


@torch.no_grad()
def predict(model: ExtractiveQaModel, rows: QaRows, device: torch.device, *, batch_size: int = 256) -> list[Question]:
    """The questions with the best answers and their scores: softmax over these answers.

    Args:
        model: in evaluation mode, on the device.
        rows: of the model's tokenizer.
        device: to compute on.
        batch_size: most windows of a forward.
    """
    n_best, max_answer = model.settings.n_best, model.settings.max_answer
    sums = np.full((len(rows), n_best), -np.inf)
    spans = np.zeros((len(rows), n_best, 2), dtype=np.int64)  # first and last piece
    for numbers in batches_of_rows(rows.num_pieces, batch_size=batch_size):
        packed, may_be, offsets = rows.candidates(numbers, device)
        best, first, last = best_spans(model.scores(packed), may_be, max_answer=max_answer, n_best=n_best)
        sums[numbers, : best.shape[1]] = best.cpu().numpy()
        places = torch.stack([first, last], dim=2).cpu().numpy()
        spans[numbers, : best.shape[1]] = places + offsets[:, None, None]
    kept, bounds, scores = best_of_questions(rows.windows.question, sums, len(rows.questions), n_best)
    question = np.repeat(np.arange(len(rows.questions)), np.diff(bounds))
    pieces = spans.reshape(-1, 2)[kept] + rows.characters.offsets[rows.context[question]][:, None]
    starts, ends = rows.characters.values[pieces[:, 0], 0].tolist(), rows.characters.values[pieces[:, 1], 1].tolist()
    found = []
    for one, begin, end in zip(rows.questions, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        answers = zip(starts[begin:end], ends[begin:end], scores[begin:end].tolist(), strict=True)
        found.append(one._replace(found=tuple(Found(one.context[a:b], a, b, score) for a, b, score in answers)))
    return found
