"""What reports say of scores that are easily misread: of few sentences, far apart, or of no fact at all."""

import json
import re
from dataclasses import replace
from statistics import pstdev

import pytest

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from spe_dist.extraction.scores.joint_scoring import JointScoring
from spe_dist.extraction.scores.type_rules import TypeRules
from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.finetuning.score_report import _one_line, draw_scores, score_json, score_text
from spe_dist.finetuning.scored_run import ScoredRun, compare_scored_runs, score_run

PERSON, PLACE = Entity(0, 1, "person"), Entity(2, 3, "place")
RELATED = AnnotatedSentence(("Anna", "in", "Rome"), (PERSON, PLACE), (Relation(0, 1, "in"),))
UNRELATED = AnnotatedSentence(RELATED.words, RELATED.entities)
NOTHING = AnnotatedSentence(RELATED.words)
DASH = "\N{EN DASH}"


def scored(name: str, gold: AnnotatedSentence, *found: AnnotatedSentence, sentences: int = 12) -> ScoredRun:
    """A run whose seeds each find the same in every sentence."""
    predicted = {seed: [one] * sentences for seed, one in enumerate(found, start=1)}
    return score_run(JointScoring(), RunPredictions(name, [gold] * sentences, predicted), resamples=500)


def test_no_interval_leaves_what_an_f1_can_be():
    first, second = scored("a", RELATED, NOTHING, RELATED), scored("b", RELATED, RELATED, RELATED, NOTHING)
    tests = compare_scored_runs(first, second, resamples=500)
    for estimate in (*first.estimates.values(), *second.estimates.values()):
        assert (estimate.low, estimate.high) == (0, 1)  # two seeds, one without a fact: nothing is known
    assert (tests["entity_f1"].difference.low, tests["entity_f1"].difference.high) == (-1, 1)
    text = score_text([first, second], tests)
    numbers = [float(number) for number in re.findall(r"[\[ ]([+-]?\d+\.\d)\]", text)]
    assert numbers and max(map(abs, numbers)) <= 100
    written = score_json([first, second], tests)
    assert written["runs"][0]["micro_f1"]["entity_f1"]["high"] == 1


def test_every_type_has_precision_recall_and_f1_of_each_run():
    more = AnnotatedSentence(RELATED.words, (PERSON, PLACE, Entity(1, 2, "place"), Entity(1, 3, "place")))
    text = score_text([scored("a", RELATED, more), scored("b", RELATED, RELATED, NOTHING)])
    assert re.search(r"^entity_f1 +gold +a, precision +a, recall +a, F1 +b, precision .*b, F1$", text, re.MULTILINE)
    both = r"( +50\.0 ± 70\.7){3}$"  # two seeds, one that finds nothing
    assert re.search(rf"^type: place +12 +33\.3 +100\.0 +50\.0{both}", text, re.MULTILINE)
    assert re.search(rf"^micro +24 +50\.0 +100\.0 +66\.7{both}", text, re.MULTILINE)


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
    assert re.search(rf"^type: in +0( +{DASH}){{6}}$", text, re.MULTILINE)
    assert f"relation_f1 {DASH}," in _one_line(run)
    heights = []
    monkeypatch.setattr("matplotlib.axes.Axes.bar", lambda self, places, values, *_, **__: heights.extend(values))
    draw_scores([run], tmp_path / "scores.png")
    assert heights == pytest.approx([100] * 3, abs=1)  # no bar for any relation


def test_intervals_of_two_seeds_have_a_word_beside_them():
    one, two, three = (scored("a", RELATED, *[RELATED] * seeds) for seeds in (1, 2, 3))
    word = "With two seeds, intervals and p-values rest on one degree of freedom"
    assert word in score_text([two]) and word in _one_line(two)
    assert word in score_text([two, three], compare_scored_runs(two, three, resamples=100))
    assert word not in score_text([one]) + score_text([three]) + _one_line(three)


def test_p_values_are_shown_raw_and_corrected_for_their_number():
    first, second = scored("a", RELATED, RELATED), scored("b", RELATED, UNRELATED)
    tests = compare_scored_runs(first, second, resamples=500)
    text, written = score_text([first, second], tests), score_json([first, second], tests)["second_minus_first"]
    raw = {measure: test.p_value for measure, test in tests.items()}
    assert raw["entity_f1"] == 1 and raw["relation_f1"] < 0.01
    corrected = {measure: test["p_value_holm"] for measure, test in written.items()}
    assert corrected == pytest.approx({measure: min(1, 3 * p) for measure, p in raw.items()})  # the smallest are equal
    assert re.search(rf"^relation_f1 .* {raw['relation_f1']:.4f} +{corrected['relation_f1']:.4f}$", text, re.MULTILINE)
    assert "Holm: corrected for 3 comparisons)" in text
    nothing = scored("a", UNRELATED, RELATED)
    without = compare_scored_runs(nothing, nothing, resamples=100)
    assert "Holm: corrected for 1 comparison)" in score_text([nothing, nothing], without)
    assert score_json([nothing, nothing], without)["second_minus_first"]["relation_f1"]["p_value_holm"] is None


def test_what_difference_can_be_seen_is_said():
    first, second = scored("a", RELATED, RELATED, NOTHING, RELATED), scored("b", RELATED, RELATED, RELATED)
    line = re.search(
        r"^With 3 seeds and this test set \(12 sentences\).*entity_f1 (\d+\.\d)", score_text([first]), re.M
    )
    f1 = [1, 0, 1]
    assert float(line[1]) == pytest.approx(100 * (4.303 + 1.061) * (2 * pstdev(f1) ** 2 * 1.5 / 3) ** 0.5, rel=0.03)
    both = score_text([first, second], compare_scored_runs(first, second, resamples=100))
    assert "With 3 and 2 seeds and this test set (12 sentences)" in both
    assert "can be seen" not in score_text([scored("a", RELATED, RELATED)])


def with_scores(one: AnnotatedSentence, entities: float, relations: float) -> AnnotatedSentence:
    return AnnotatedSentence(
        one.words,
        tuple(replace(entity, score=entities) for entity in one.entities),
        tuple(replace(relation, score=relations) for relation in one.relations),
    )


def test_scores_false_relations_and_rules_stand_beside_the_f1s(tmp_path):
    """Half of the sentences are related; the first seed relates all, the second a tenth of the others too."""
    gold = [RELATED] * 10 + [UNRELATED] * 10
    found = {
        1: [with_scores(RELATED, 0.9, 0.9)] * 10 + [with_scores(RELATED, 0.9, 0.4)] * 10,
        2: [with_scores(RELATED, 0.9, 0.9)] * 11 + [with_scores(UNRELATED, 0.9, 0)] * 9,
    }
    rule = TypeRules((("person", "in", "place"),), ())
    run = score_run(JointScoring(), RunPredictions("a", gold, found, {1: rule, 2: rule}), resamples=100)
    text = score_text([run])
    assert re.search(r"^relations +16 +75.4 +81.9 +0\.\d{3} +0\.\d{3}$|^relations +16 ", text, re.MULTILINE)
    assert re.search(r"^0 +100.0 +100.0 +70.5 +100.0 +55.0 +55.0$", text, re.MULTILINE)
    assert re.search(r"^0.5 +100.0 +100.0 +95.5 +100.0 +5.0 +5.0$", text, re.MULTILINE)
    assert "share of the 10 pairs" in text and "of the 10 in sentences without any relation" in text
    assert "(score >= 0.90, recall 100.0 %), 5.0 % of the unrelated pairs get a relation (strict: 5.0 %)." in text
    assert re.search(r"^one-line rule: .* 66.7 ± +0.0 +66.7 ± +0.0 +\+14.3 ", text, re.MULTILINE)
    assert re.search(r"^best rule: .* 0.0 ± +0.0 +0.0 ± +0.0 +\+81.0 ", text, re.MULTILINE)
    assert "not better than a rule" not in text
    everywhere = RunPredictions("a", gold, {1: found[1]}, {1: rule})
    assert "warning: the relations of a are not better than a rule" in score_text(
        [score_run(JointScoring(), everywhere, resamples=50)]
    )
    written = json.loads(json.dumps(score_json([run]), allow_nan=False))["runs"][0]
    assert [one["at_kept_recall"]["rate"] for one in written["false_relations"]] == [0.0, 0.1]
    assert written["rules"]["majority"]["f1"]["relation_f1"] == pytest.approx([2 / 3, 2 / 3])
    draw_scores([run, run], tmp_path / "scores.png")
    assert (tmp_path / "scores.png").stat().st_size > 10_000
