"""Exact match and F1 of answers: the official measures of SQuAD 1.1, which MRQA's are too."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from data_shards.errors import UserError
from spe_dist.extractive_qa.question import Found, Question
from spe_dist.finetuning.measures import TIE_BREAK, UNIT, Contributions, Measure, mean_of_shares, share
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.finetuning.scoring import Scoring, ShownFacts, ShownItem

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NOTE = """(exact_match and f1 as SQuAD 1.1 and MRQA: without case, punctuation and articles; of all right answers the
 nearest one counts; a question without an answer counts as 0. f1: of the answer's words, mean over questions.)"""
MEASURES: Mapping[str, Measure] = {"exact_match": share, "f1": mean_of_shares}


class ExtractiveQaScoring(Scoring[Question]):
    """Scores of answered questions; the best epoch is that of the best F1, then of the most exact matches."""

    items = "questions"
    title = "scores"
    measures = MEASURES
    selection_text = "f1, and exact_match where it is equal"

    def to_json(self, item: Question) -> dict[str, Any]:
        asked = {"id": item.id, "question": item.question}
        if item.found is None:
            spans = [list(span) for span in item.spans]
            return asked | {"context": item.context, "answers": list(item.answers), "spans": spans}
        n_best = [one._asdict() | {"score": round(one.score, 4)} for one in item.found]
        return asked | {"answer": item.found[0].text if item.found else None, "n_best": n_best}

    def from_json(self, values: dict[str, Any], number: int) -> Question:
        if "n_best" in values:
            found = tuple(Found(one["text"], one["start"], one["end"], one["score"]) for one in values["n_best"])
            return Question(values["id"], values["question"], "", found=found)
        spans = tuple((start, end) for start, end in values["spans"])
        return Question(values["id"], values["question"], values["context"], tuple(values["answers"]), spans)

    def contributions(self, gold: Sequence[Question], predicted: Sequence[Question]) -> dict[str, Contributions]:
        """Columns: exact_match (right, all); f1 (sum in UNIT, all)."""
        if [(one.id, one.question) for one in gold] != [(one.id, one.question) for one in predicted]:
            raise UserError("the predicted questions are not the gold ones: predict the same file again")
        rows = []
        for one, other in zip(gold, predicted, strict=True):
            best = [_words(found.text) for found in (other.found or ())[:1]]
            right = [_words(answer) for answer in one.answers]
            f1 = max((word_f1(words, answer) for words in best for answer in right), default=0.0)
            rows.append((any(words in right for words in best), round(UNIT * f1), 1))
        exact, f1s, ones = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        return {"exact_match": np.stack([exact, ones], axis=1), "f1": np.stack([f1s, ones], axis=1)}

    def selection_score(self, scores: Mapping[str, float]) -> float:
        return scores["f1"] + TIE_BREAK * scores["exact_match"]

    def shown(self, item: Question) -> ShownItem:
        """An answer is right if it is an exact match; several of the annotated ones may be."""
        answers = item.answers if item.found is None else [found.text for found in item.found[:1]]
        facts: ShownFacts = {_words(answer): answer for answer in answers}
        return ShownItem(f"{item.question}\n{' '.join(item.context.split())}", {"answers": facts})

    def tables(self, runs: Sequence[ScoredRun]) -> list[str]:
        return [_NOTE]


def normalise(text: str) -> str:
    """An answer in lower case, without ASCII punctuation and articles, with single spaces (SQuAD's scorer)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def word_f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """F1 of the words of two normalised answers, each as often as it occurs; 0 if they share none."""
    shared = (Counter(predicted) & Counter(gold)).total()
    return 2 * shared / (len(predicted) + len(gold)) if shared else 0.0


@lru_cache(maxsize=1 << 16)  # the same answers are compared after every epoch
def _words(text: str) -> tuple[str, ...]:
    return tuple(normalise(text).split())
