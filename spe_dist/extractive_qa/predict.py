"""`spe predict` with a model of extractive question answering: files of its formats, with or without answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from data_shards.errors import UserError
from spe_dist.extractive_qa.formats import read_questions
from spe_dist.extractive_qa.model import ExtractiveQaModel, QaSettings
from spe_dist.extractive_qa.question import Question
from spe_dist.extractive_qa.scoring import ExtractiveQaScoring
from spe_dist.extractive_qa.task import STEM, encode_for, predict
from spe_dist.finetuning.predict_items import load_for_prediction, predict_items


def predicted(
    folder: Path, files: list[str], text: str | None, *, device: str | None, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Each question with its best answer and the n best ones: text, characters of the context, score.

    Args:
        folder: of the model.
        files: to read one after another; `-` is standard input.
        text: refused, as a question has two.
        device: to compute on.
        batch_size: most windows of a forward.

    Raises:
        UserError: the model or a file cannot be read.
    """
    if text is not None:
        raise UserError(
            '--text is for tasks that read one text: give a question as {"question": "…", "context": "…"}, a line of a '
            "file or of standard input"
        )
    questions = [question for file in files for question in read_questions(Path(file), answered=False)]
    model, word_pieces, place = load_for_prediction(
        folder, STEM, TypeAdapter(QaSettings).validate_python, ExtractiveQaModel, device
    )

    def find(portion: Any) -> list[Question]:
        return predict(model, encode_for(portion, model, word_pieces), place, batch_size=batch_size)

    yield from predict_items(questions, find, ExtractiveQaScoring().to_json)
