"""`spe predict` with a model of multi-choice questions: WikiHop's files, with or without answers → answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from data_shards.errors import UserError
from spe_dist.finetuning.predict_items import load_for_prediction, predict_items
from spe_dist.multi_choice.model import ChoiceSizes, MultiChoiceModel
from spe_dist.multi_choice.question import Question, read_questions
from spe_dist.multi_choice.scoring import MultiChoiceScoring
from spe_dist.multi_choice.task import STEM, encode_for, predict


def predicted(
    folder: Path, files: list[str], text: str | None, *, device: str | None, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Each question with its answer, and the probability of each candidate as `scores`; null for one that is not read.

    Args:
        folder: of the model.
        files: to read one after another; `-` is standard input.
        text: refused, as a question has several.
        device: to compute on.
        batch_size: most questions of a forward.

    Raises:
        UserError: the model or a file cannot be read.
    """
    if text is not None:
        raise UserError("--text: a question has candidates and several texts: write it to a file as WikiHop does")
    model, word_pieces, place = load_for_prediction(
        folder, STEM, TypeAdapter(ChoiceSizes).validate_python, MultiChoiceModel, device
    )
    questions = [question for file in files for question in read_questions(Path(file), labelled=False)]

    def find(portion: Any) -> list[Question]:
        return predict(model, encode_for(portion, model, word_pieces), place, batch_size=batch_size)

    yield from predict_items(questions, find, MultiChoiceScoring().to_json)
