"""Official EM and F1: by hand, and against a slow reading of their definition."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from spe_dist.extractive_qa.question import Found, Question
from spe_dist.extractive_qa.scoring import ExtractiveQaScoring, normalise
from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.finetuning.score_report import score_json, score_text
from spe_dist.finetuning.scored_run import compare_scored_runs, score_run

SCORING = ExtractiveQaScoring()


def gold(number, *answers):
    return Question(str(number), "?", "c", answers, tuple((0, 1) for _ in answers))


def found(number, *texts):
    return Question(str(number), "?", "", found=tuple(Found(text, 0, 1, 0.5) for text in texts))


def scores(answers, texts):
    return SCORING.scores(
        [gold(n, *of) for n, of in enumerate(answers)],
        [found(n, *([] if text is None else [text])) for n, text in enumerate(texts)],
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  A. ant!", "ant"),
        ("an-the apple", "anthe apple"),  # punctuation goes first: what is left is no article
        ("a.the", "athe"),
        ("U.S.\t$5", "us 5"),
        ("«The» ÉTÉ—x", "« » été—x"),  # punctuation is ASCII's alone
        ("A the an", ""),
        ("the_theatre", "thetheatre"),
    ],
)
def test_normalisation(text, expected):
    assert normalise(text) == expected


def test_exact_match_decides_only_between_equal_f1s():
    points = [{"f1": 0.5001, "exact_match": 0.2}, {"f1": 0.5, "exact_match": 0.4}, {"f1": 0.5, "exact_match": 0.39}]
    assert sorted(points, key=SCORING.selection_score, reverse=True) == points


def test_by_hand():
    # exact after normalisation; 1 of 2 and 1 of 1 words; the better of two answers; nothing; unanswered
    answers = [["Paris"], ["New York"], ["x", "the red house"], ["b"], ["c"]]
    texts = ["the Paris!", "York", "red big house", "d", None]
    expected = [1, 2 * (1 * 1 / 2) / (1 + 1 / 2), 2 * (2 / 3 * 1) / (2 / 3 + 1), 0, 0]
    assert scores(answers, texts) == pytest.approx({"exact_match": 1 / 5, "f1": sum(expected) / 5})
    assert scores([["the"]], ["a"]) == {"exact_match": 1.0, "f1": 0.0}  # as the official program: no word is shared
    assert scores([["a b b"]], ["b b b c"])["f1"] == pytest.approx(2 * (2 / 4 * 2 / 2) / (2 / 4 + 2 / 2))


WORDS = st.lists(st.sampled_from(["the", "a", "An", "cat", "Dog", "dog.", "(", "U.S.", "  ", "é", "x-y"]), max_size=6)
ANSWER = WORDS.map(" ".join)


def slow_words(text):
    kept = "".join(character for character in text if character not in string.punctuation).lower()
    return [word for word in kept.split() if word not in ("a", "an", "the")]  # words here are between blanks


def slow_f1(predicted, right):
    rest, same = list(right), 0
    for word in predicted:
        if word in rest:
            rest.remove(word)
            same += 1
    if not same:
        return 0.0
    precision, recall = same / len(predicted), same / len(right)
    return 2 * precision * recall / (precision + recall)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.none() | ANSWER, st.lists(ANSWER, min_size=1, max_size=3)), min_size=1, max_size=8))
def test_as_a_slow_reading_of_the_definitions(pairs):
    exact = f1 = 0.0
    for text, answers in pairs:
        if text is not None:
            exact += max(slow_words(text) == slow_words(answer) for answer in answers)
            f1 += max(slow_f1(slow_words(text), slow_words(answer)) for answer in answers)
    expected = {"exact_match": exact / len(pairs), "f1": f1 / len(pairs)}
    assert scores([of for _, of in pairs], [text for text, _ in pairs]) == pytest.approx(expected, abs=1e-8)


def test_reports_lines_and_paired_tests():
    items = [gold(n, "red house") for n in range(30)]
    half, all_right = ([found(n, text) for n in range(30)] for text in ("house", "a red house"))
    runs = [score_run(SCORING, RunPredictions(name, items, {1: of, 2: of}), resamples=50)
            for name, of in (("a", half), ("b", all_right))]  # fmt: skip
    text = score_text(runs)
    assert "exact_match" in text and "a question without an answer counts as 0" in text
    assert runs[0].values["f1"] == pytest.approx([2 / 3, 2 / 3])
    difference = compare_scored_runs(*runs, resamples=50)["f1"].difference
    assert difference.mean == pytest.approx(1 / 3)
    assert score_json(runs)["runs"][0]["name"] == "a"
    for one in (items[0], found(1, "x", "y"), found(1)):
        assert SCORING.from_json(SCORING.to_json(one), 0) == one
    with pytest.raises(UserError, match="not the gold ones"):
        SCORING.contributions(items[:1], [found(1, "x")])
