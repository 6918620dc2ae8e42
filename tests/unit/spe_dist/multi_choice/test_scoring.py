"""What is said of scores of questions with given candidates."""

import json
import re

import pytest

from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.finetuning.score_report import score_json, score_text
from spe_dist.finetuning.scored_run import ScoredRun, score_run
from spe_dist.multi_choice.question import Question
from spe_dist.multi_choice.scoring import MultiChoiceScoring

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
