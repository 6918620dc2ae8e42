"""Scores of questions with given candidates: accuracy, and beside it what needs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_shards.errors import UserError
from spe_dist.finetuning.measures import Contributions, Measure, share
from spe_dist.finetuning.score_cells import percent
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.finetuning.scoring import Scoring, ShownFacts, ShownItem
from spe_dist.multi_choice.question import Question
from spe_dist.text_table import text_table

_NOTE = """(nearest mention: the candidate that is mentioned nearest to the subject, without a model. Chance: a random
 one. Not read: the answer is not in what the model reads, so it is wrong. Questions of one document are resampled
 together.)"""


MEASURES: Mapping[str, Measure] = {"accuracy": share}


class Details(NamedTuple):
    """What is found out beside the accuracy, as shares."""

    nearest: float
    """Questions that the nearest mention answers."""
    chance: float
    """Questions that a random candidate answers, in the mean."""
    not_read: float
    """Questions whose answer the model did not read, mean over seeds."""
    where_nearest_is_wrong: float | None
    """Accuracy on questions that the nearest mention does not answer, mean over seeds; None if there are none."""


_ROWS = ("nearest mention", "chance", "not read", "accuracy where the nearest mention is wrong")


class MultiChoiceScoring(Scoring[Question]):
    """Accuracy."""

    items = "questions"
    title = "scores"
    measures = MEASURES
    selection_text = "accuracy"

    def to_json(self, item: Question) -> dict[str, Any]:
        fields: dict[str, Any] = {"id": item.id, "query": item.query, "candidates": item.candidates}
        fields |= {"answer": item.answer}
        if item.scores is not None:
            fields["scores"] = [None if score is None else round(score, 4) for score in item.scores]
        rest = {"nearest": item.nearest, "document": item.document}
        return fields | {name: value for name, value in rest.items() if value is not None}

    def from_json(self, values: dict[str, Any], number: int) -> Question:
        scores = values.get("scores")
        return Question(
            values["id"],
            values["query"],
            tuple(values["candidates"]),
            answer=values["answer"],
            scores=None if scores is None else tuple(scores),
            nearest=values.get("nearest"),
            document=values.get("document"),
        )

    def contributions(self, gold: Sequence[Question], predicted: Sequence[Question]) -> dict[str, Contributions]:
        """Right, all: a row for each document, and for each question that is of none."""
        if [one[:3] for one in gold] != [one[:3] for one in predicted]:
            raise UserError("the predicted questions are not the gold ones: predict the same file again")
        rows: dict[tuple[str, Any], int] = {}
        numbers = [
            rows.setdefault(("", number) if one.document is None else ("of", one.document), len(rows))
            for number, one in enumerate(gold)
        ]
        counts = np.zeros((len(rows), 2), dtype=np.int64)
        np.add.at(
            counts, numbers, [(one.answer == other.answer, 1) for one, other in zip(gold, predicted, strict=True)]
        )
        return {"accuracy": counts}

    def shown(self, item: Question) -> ShownItem:
        """Without the texts to read, which files of predictions do not hold."""
        answers: ShownFacts = {} if item.answer is None else {item.answer: item.answer}
        return ShownItem(f"{item.query}\ncandidates: {'; '.join(item.candidates)}", {"answers": answers})

    def details(self, run: Any, contributions: Any, resamples: int) -> Details:
        gold: list[Question] = run.gold
        nearest = np.array([one.nearest == one.answer for one in gold])
        right, read = (
            np.array([[told(one, other) for one, other in zip(gold, of, strict=True)] for of in run.by_seed.values()])
            for told in (_is_right, _is_read)
        )
        hard = right[:, ~nearest]
        return Details(
            float(nearest.mean()),
            float(np.mean([1 / len(one.candidates) for one in gold])),
            float(1 - read.mean()),
            float(hard.mean()) if hard.size else None,
        )

    def tables(self, runs: Sequence[ScoredRun]) -> list[str]:
        rows = [[name, *(percent(run.details[number]) for run in runs)] for number, name in enumerate(_ROWS)]
        return [_NOTE, text_table(["beside it, %", *(run.name for run in runs)], rows)]

    def run_json(self, run: ScoredRun) -> dict[str, Any]:
        return {"beside": run.details._asdict()}


def _is_right(gold: Question, predicted: Question) -> bool:
    return gold.answer == predicted.answer


def _is_read(gold: Question, predicted: Question) -> bool:
    scores = dict(zip(predicted.candidates, predicted.scores or (), strict=False))
    return gold.answer is not None and scores.get(gold.answer) is not None
