"""Both F1 against the official scorer's own examples, by hand, and against a slow reading of its definition."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.finetuning.score_report import score_json, score_text
from spe_dist.finetuning.scored_run import compare_scored_runs, score_run
from spe_dist.sentence_relations.marked_sentence import MarkedSentence
from spe_dist.sentence_relations.scoring import SentenceRelationsScoring, semeval_macro_f1
from spe_dist.text_table import UNDEFINED
from tests.unit.spe_dist.sentence_relations.semeval import as_sentence, relations_of, scores, slow_scores

EXAMPLES = Path(__file__).parent / "scorer_examples"  # with their licence
REAL = Path(os.environ.get("SPE_DIST_REAL_DATA", "nowhere")) / "semeval2010_task8" / "scorer_examples"
LABELS = ["Other", "A-B(e1,e2)", "A-B(e2,e1)", "C-D(e1,e2)", "C-D(e2,e1)", "E-F(e1,e2)"]


@pytest.mark.parametrize(
    ("folder", "number", "macro", "micro"),
    [
        (EXAMPLES, 1, 64.09, 59.26),
        pytest.param(
            REAL, 2, 6.35, 6.67,
            marks=pytest.mark.skipif(not REAL.is_dir(), reason="SPE_DIST_REAL_DATA has no semeval2010_task8"),
        ),
        (EXAMPLES, 3, 11.11, 18.18),
        (EXAMPLES, 5, 44.44, 44.44),
    ],
)  # fmt: skip
def test_the_official_scorers_examples(folder, number, macro, micro):
    """With the macro-averaged F1 that it calls the official score, and the micro-averaged one above it."""
    key, answers = (
        relations_of((folder / f"{name}{number}.txt").read_text()) for name in ("answer_key", "proposed_answer")
    )
    found = scores(key, answers)
    assert (found["semeval_macro_f1"], found["semeval_micro_f1"]) == (macro, micro)


def test_by_hand():
    key = relations_of("1\tA-B(e1,e2)\n2\tA-B(e2,e1)\n3\tC-D(e1,e2)\n4\tOther\n5\tOther\n6\tC-D(e2,e1)")
    answers = relations_of("1\tA-B(e1,e2)\n2\tA-B(e1,e2)\n3\tC-D(e1,e2)\n4\tC-D(e1,e2)\n5\tOther\n9\tOther")
    # A-B: right 1 of 2 found and of 2 gold, .5; C-D: right 1 of 2 found and of 2 gold, .5; micro: 2 of 4 and of 4
    assert list(scores(key, answers).values()) == [50.0, 50.0, 50.0]
    answers["4"] = "E-F(e1,e2)"  # a relation that is not in the key; C-D is now 2/3
    # as its official scorer, semeval_micro_f1 looks at the relations of the key alone: 2 of 3 and of 4
    assert list(scores(key, answers).values()) == [50.0, 58.33, 57.14]
    assert list(scores(key, {}).values()) == list(scores({"1": "Other"}, {"1": "Other"}).values()) == [0, 0, 0]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "G-H(e1,e2)", None])), min_size=1))
def test_as_a_slow_reading_of_the_definition(pairs):
    key = {str(number): gold for number, (gold, _) in enumerate(pairs)}
    answers = {str(number): found for number, (_, found) in enumerate(pairs) if found is not None}
    assert scores(key, answers) == pytest.approx(slow_scores(key, answers), abs=0.011)


def test_tacreds_micro_f1_does_not_count_right_answers_of_no_relation():
    gold = [as_sentence(str(n), one) for n, one in enumerate(["per:title", "per:age", None, None])]
    found = [one._replace(relation=new) for one, new in zip(gold, ["per:title", None, None, "per:age"], strict=True)]
    assert SentenceRelationsScoring().scores(gold, found)["micro_f1"] == 0.5  # P 1/2, R 1/2


def test_other_sentences_are_refused():
    gold = [as_sentence("1", None)]
    with pytest.raises(UserError, match="not the gold ones"):
        SentenceRelationsScoring().contributions(gold, [gold[0]._replace(head=(1, 2))])


def test_lines_are_read_again():
    scoring = SentenceRelationsScoring()
    for item in (as_sentence("1", "A-B(e1,e2)"), MarkedSentence("2", ("x", "y"), (0, 2), (1, 2), None, 0.25)):
        assert scoring.from_json(scoring.to_json(item), 0) == item


def test_two_runs_are_compared_relation_by_relation():
    gold = [as_sentence(str(n), LABELS[n % 4]) for n in range(80)]
    wrong = [one._replace(relation=None) if n % 3 == 0 else one for n, one in enumerate(gold)]
    scoring = SentenceRelationsScoring()
    runs = [RunPredictions("a", gold, {1: gold, 2: gold}), RunPredictions("b", gold, {1: wrong, 2: wrong})]
    scored = [score_run(scoring, run, resamples=200) for run in runs]
    tests = compare_scored_runs(*scored, resamples=200)
    assert tests["semeval_macro_f1"].difference.mean < -0.1 and tests["micro_f1"].p_value < 0.05
    text = score_text(scored, tests)
    assert "A-B" in text and "official score" in text
    kept = [one.relation for one, true in zip(wrong, gold, strict=True) if (true.relation or "").startswith("A-B")]
    recall = score_json(scored, tests)["runs"][1]["by_relation"]["A-B"][1]
    assert recall == pytest.approx(1 - kept.count(None) / len(kept))
    none = [as_sentence(str(n), None) for n in range(60)]
    empty = score_run(scoring, RunPredictions("c", none, {1: none}), resamples=50)
    assert not empty.is_defined("micro_f1") and UNDEFINED in score_text([empty])
    assert semeval_macro_f1(np.zeros((4, 6))).tolist() == [0, 0, 0, 0]
