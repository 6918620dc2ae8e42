"""What is said of scores of questions with given candidates."""

import re

import pytest

from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.finetuning.score_report import score_json, score_text
from spe_dist.finetuning.scored_run import ScoredRun, score_run
from spe_dist.multi_choice.question import Question
from spe_dist.multi_choice.scoring import MultiChoiceScoring
from spe_dist.text_table import UNDEFINED

pytestmark = pytest.mark.any_version


def scored(*questions: Question) -> ScoredRun:
    """A run whose two seeds answer every question rightly."""
    run = RunPredictions("a", list(questions), {1: list(questions), 2: list(questions)})
    return score_run(MultiChoiceScoring(), run, resamples=100)


def asked(number: int, *, nearest: str = "a", document: str | int | None = None) -> Question:
    return Question(str(number), "?", ("a", "b"), answer="a", scores=(0.9, 0.1), nearest=nearest, document=document)


def test_few_documents_are_said_to_be_few_however_many_questions_they_have() -> None:
    of_five = score_text([scored(*(asked(n, document=f"d{n % 5}") for n in range(60)))])
    told = "(only 5 groups of questions that are resampled together: intervals are unreliable below 50)"
    assert "60 questions" in of_five and told in of_five
    assert "unreliable" not in score_text([scored(*(asked(n) for n in range(60)))])
    assert "(only 3 questions: intervals are unreliable" in score_text([scored(*(asked(n) for n in range(3)))])


def test_accuracy_on_no_questions_is_none() -> None:
    told = "accuracy where the nearest mention is wrong"
    run = scored(asked(1), asked(2))
    assert re.search(rf"^{told} +{UNDEFINED}$", score_text([run]), re.MULTILINE)
    assert score_json([run])["runs"][0]["beside"]["where_nearest_is_wrong"] is None
    assert re.search(rf"^{told} +100\.0$", score_text([scored(asked(1), asked(2, nearest="b"))]), re.MULTILINE)
