"""What reports say of scores that are easily misread: of few sentences, far apart, or of no fact at all."""

import re

import pytest

from spe_dist.extraction.annotated_sentence import AnnotatedSentence, Entity, Relation
from spe_dist.extraction.predictions import RunPredictions
from spe_dist.extraction.score_report import draw_scores, overview_text, score_json, score_text
from spe_dist.extraction.scored_run import ScoredRun, compare_scored_runs, score_run

PERSON, PLACE = Entity(0, 1, "person"), Entity(2, 3, "place")
RELATED = AnnotatedSentence(("Anna", "in", "Rome"), (PERSON, PLACE), (Relation(0, 1, "in"),))
UNRELATED = AnnotatedSentence(RELATED.words, RELATED.entities)
NOTHING = AnnotatedSentence(RELATED.words)
DASH = "\N{EN DASH}"


def scored(name: str, gold: AnnotatedSentence, *found: AnnotatedSentence, sentences: int = 12) -> ScoredRun:
    """A run whose seeds each find the same in every sentence."""
    predicted = {seed: [one] * sentences for seed, one in enumerate(found, start=1)}
    return score_run(RunPredictions(name, [gold] * sentences, predicted), resamples=500)


def test_no_interval_leaves_what_an_f1_can_be():
    first, second = scored("a", RELATED, NOTHING, RELATED), scored("b", RELATED, RELATED, RELATED, NOTHING)
    tests = compare_scored_runs(first, second, resamples=500)
    for estimate in (*first.micro_f1.values(), *second.micro_f1.values()):
        assert (estimate.low, estimate.high) == (0, 1)  # two seeds, one without a fact: nothing is known
    assert (tests["entity_f1"].difference.low, tests["entity_f1"].difference.high) == (-1, 1)
    text = score_text([first, second], tests)
    numbers = [float(number) for number in re.findall(r"[\[ ]([+-]?\d+\.\d)\]", text)]
    assert numbers and max(map(abs, numbers)) <= 100
    written = score_json([first, second], tests)
    assert written["runs"][0]["micro_f1"]["entity_f1"]["high"] == 1


def test_few_sentences_are_said_to_be_few():
    one = scored("a", RELATED, RELATED)
    assert "(only 12 sentences: intervals are unreliable below 50)" in score_text([one])
    both = score_text([one, one], compare_scored_runs(one, one, resamples=500))
    assert "(only 12 sentences: intervals and p-values are unreliable below 50)" in both
    assert "unreliable" not in score_text([scored("a", RELATED, RELATED, sentences=50)])


def test_a_score_of_no_gold_fact_is_none(tmp_path, monkeypatch):
    run = scored("a", UNRELATED, RELATED)
    text = score_text([run, run], compare_scored_runs(run, run, resamples=500))
    assert re.search(rf"^relation_f1( +{DASH}){{5}}$", text, re.MULTILINE)
    assert re.search(rf"^type: in +0( +{DASH}){{2}}$", text, re.MULTILINE)
    assert f"relation_f1 {DASH}," in overview_text(run)
    heights = []
    monkeypatch.setattr("matplotlib.axes.Axes.bar", lambda self, places, values, *_, **__: heights.extend(values))
    draw_scores([run], tmp_path / "scores.png")
    assert heights == pytest.approx([100] * 3, abs=1)  # no bar for any relation
