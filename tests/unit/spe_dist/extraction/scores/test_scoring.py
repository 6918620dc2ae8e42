"""Scores against scorers that others wrote, against slow and obvious ones, and by hand."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nervaluate.evaluator import Evaluator

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.errors import UserError
from spe_dist.extraction.scores.scoring import (
    MEASURES,
    WORDS_BETWEEN,
    find_facts,
    group_names,
    precision_recall_f1,
    score,
    words_between,
)
from tests.unit.spe_dist.extraction.random_sentences import ENTITY_TYPES, any_entities, corpora, separate_entities

pytestmark = pytest.mark.any_version

THOROUGHLY = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def tags_of(sentence):
    tags = ["O"] * len(sentence.words)
    for entity in sentence.entities:
        for word in range(entity.word_start, entity.word_end):
            tags[word] = ("B-" if word == entity.word_start else "I-") + entity.type
    return tags


def numbers(score):
    return pytest.approx((score.precision, score.recall, score.f1), abs=1e-12)


@THOROUGHLY
@given(corpora(separate_entities, max_sentences=6, max_words=8))
def test_entities_are_scored_as_nervaluate_does(corpus):
    gold, predicted = corpus
    mine = score(gold, predicted)["entity_f1"]
    theirs = Evaluator(*([tags_of(one) for one in side] for side in corpus), list(ENTITY_TYPES), "list").evaluate()
    overall = theirs["overall"].get("strict")  # a corpus without sentences has none
    if overall is None:
        assert not gold and mine.micro.f1 == mine.macro.f1 == 0 and not mine.by_type
        return
    assert (overall.correct, overall.actual, overall.possible) == (
        mine.micro.correct,
        mine.micro.predicted,
        mine.micro.gold,
    )
    assert (overall.precision, overall.recall, overall.f1) == numbers(mine.micro)
    by_type = {name: result["strict"] for name, result in theirs["entities"].items()}
    assert by_type.keys() == mine.by_type.keys() and mine.macro.types == len(by_type)
    for name, result in by_type.items():
        assert (result.correct, result.actual, result.possible, result.f1) == pytest.approx(
            (mine.by_type[name].correct, mine.by_type[name].predicted, mine.by_type[name].gold, mine.by_type[name].f1)
        )


@THOROUGHLY
@given(corpora(separate_entities, max_sentences=6, max_words=8))
def test_entities_are_scored_as_seqeval_does(corpus):
    metrics = pytest.importorskip(
        "seqeval.metrics.v1", reason="pip install seqeval: no release since 2020, source only, so not in the test extra"
    )
    scheme = pytest.importorskip("seqeval.scheme")
    gold, predicted = corpus
    mine = score(gold, predicted)["entity_f1"]
    if not any(sentence.entities for side in corpus for sentence in side):
        assert mine.micro.f1 == mine.macro.f1 == 0  # seqeval fails here
        return
    tags = [[tags_of(sentence) for sentence in side] for side in corpus]
    for average, ours in (("micro", mine.micro), ("macro", mine.macro)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # divisions by zero
            theirs = metrics.precision_recall_fscore_support(*tags, average=average, scheme=scheme.IOB2)
        assert theirs[:3] == numbers(ours)


def equal(one, other, *, strict, symmetric):
    """Are two relations, each (type, head, tail), the same?"""

    def same_end(first, second):
        same_words = (first.word_start, first.word_end) == (second.word_start, second.word_end)
        return same_words and (first.type == second.type or not strict)

    if one[0] != other[0]:
        return False
    if same_end(one[1], other[1]) and same_end(one[2], other[2]):
        return True
    return one[0] in symmetric and same_end(one[1], other[2]) and same_end(one[2], other[1])


def count_slowly(gold, predicted, type_=None, **rules):
    """Correct, predicted and gold relations of a corpus by comparing all with all."""
    total = [0, 0, 0]
    for pair in zip(gold, predicted, strict=True):
        true, guessed = [], []
        for sentence, distinct in zip(pair, (true, guessed), strict=True):
            for relation in sentence.relations:
                found = relation.type, sentence.entities[relation.head], sentence.entities[relation.tail]
                if type_ in (None, relation.type) and not any(equal(found, old, **rules) for old in distinct):
                    distinct.append(found)
        total[0] += sum(any(equal(guess, one, **rules) for one in true) for guess in guessed)
        total[1] += len(guessed)
        total[2] += len(true)
    return tuple(total)


@THOROUGHLY
@given(corpora(any_entities), st.sets(st.sampled_from(["near", "in"])))
def test_relations_are_scored_as_comparing_all_with_all_does(corpus, symmetric):
    scores = score(*corpus, symmetric=symmetric)
    for measure, strict in (("relation_f1", False), ("relation_strict_f1", True)):
        mine = scores[measure]
        correct, predicted, gold = count_slowly(*corpus, strict=strict, symmetric=symmetric)
        assert (mine.micro.correct, mine.micro.predicted, mine.micro.gold) == (correct, predicted, gold)
        precision, recall = (correct / below if below else 0.0 for below in (predicted, gold))
        f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
        assert (precision, recall, f1) == numbers(mine.micro)
        by_type = {
            name: counts
            for name in ("near", "in", "sees")
            if any(counts := count_slowly(*corpus, name, strict=strict, symmetric=symmetric))
        }
        assert by_type == {name: (one.correct, one.predicted, one.gold) for name, one in mine.by_type.items()}
        f1_of_types = [2 * right / (guessed + true) for right, guessed, true in by_type.values()]
        assert mine.macro.f1 == pytest.approx(np.mean(f1_of_types) if by_type else 0.0)


@settings(max_examples=200, deadline=None)
@given(corpora(any_entities))
def test_groups_share_out_all_facts(corpus):
    for measure, scores in score(*corpus).items():
        groupings = [scores.by_type, scores.by_entities, scores.by_relations, scores.by_length]
        if measure != "entity_f1":
            groupings.append(scores.by_distance)
        for groups in groupings:
            for field in ("correct", "predicted", "gold"):
                assert sum(getattr(one, field) for one in groups.values()) == getattr(scores.micro, field)


@settings(max_examples=200, deadline=None)
@given(corpora(any_entities))
def test_gold_as_a_prediction_is_perfect(corpus):
    gold, _ = corpus
    for scores in score(gold, gold).values():
        assert scores.micro.f1 == scores.macro.f1 == (1.0 if scores.micro.gold else 0.0)


# Anna sees Bob in Rome; the predictions differ in one thing at a time.
WORDS = ("Anna", "sees", "Bob", "in", "Rome")
ANNA, BOB, ROME = Entity(0, 1, "person"), Entity(2, 3, "person"), Entity(4, 5, "place")
GOLD = AnnotatedSentence(WORDS, (ANNA, BOB, ROME), (Relation(0, 1, "sees"), Relation(0, 2, "in")))


def f1s(entities, relations, **settings):
    predicted = AnnotatedSentence(WORDS, tuple(entities), tuple(Relation(*relation) for relation in relations))
    return tuple(round(scores.micro.f1, 4) for scores in score([GOLD], [predicted], **settings).values())


@pytest.mark.parametrize(
    ("entities", "relations", "expected"),
    [
        ((ANNA, BOB, ROME), [(0, 1, "sees"), (0, 2, "in")], (1, 1, 1)),
        ((ANNA, BOB, ROME), [(0, 1, "sees"), (0, 1, "sees"), (0, 2, "in")], (1, 1, 1)),  # one twice
        ((ANNA, ANNA, BOB, ROME), [(1, 2, "sees"), (0, 2, "sees"), (0, 3, "in")], (1, 1, 1)),  # an argument twice
        ((ANNA, BOB, ROME), [(1, 0, "sees"), (0, 2, "in")], (1, 0.5, 0.5)),  # wrong direction
        ((ANNA, BOB, ROME), [(0, 1, "in"), (0, 2, "in")], (1, 0.5, 0.5)),  # wrong type
        ((ANNA, Entity(2, 3, "place"), ROME), [(0, 1, "sees"), (0, 2, "in")], (0.6667, 1, 0.5)),  # wrong entity type
        ((ANNA, Entity(1, 3, "person"), ROME), [(0, 1, "sees"), (0, 2, "in")], (0.6667, 0.5, 0.5)),  # wrong words
        ((), [], (0, 0, 0)),
    ],
)
def test_what_is_an_error_in_which_measure(entities, relations, expected):
    assert f1s(entities, relations) == expected


def test_direction_means_nothing_in_symmetric_types_only():
    turned = (ANNA, BOB, ROME), [(1, 0, "sees"), (2, 0, "in")]
    assert f1s(*turned) == (1, 0, 0)
    assert f1s(*turned, symmetric=["sees"]) == (1, 0.5, 0.5)
    assert f1s(*turned, symmetric=["sees", "in"]) == (1, 1, 1)
    both_ways = (ANNA, BOB, ROME), [(0, 1, "sees"), (1, 0, "sees"), (0, 2, "in")]
    assert f1s(*both_ways, symmetric=["sees"]) == (1, 1, 1)
    assert f1s(*both_ways) == (1, 0.8, 0.8)


def test_a_sentence_is_in_the_groups_of_its_size():
    long = AnnotatedSentence(("w",) * 30, (Entity(0, 2, "a"), Entity(8, 9, "a")), (Relation(1, 0, "r"),))
    scores = score([GOLD, long], [GOLD, AnnotatedSentence(long.words, long.entities)])["relation_f1"]

    def found(groups):
        return {name: (one.correct, one.gold) for name, one in groups.items()}

    assert found(scores.by_entities) == {"2": (0, 1), "3": (2, 2)}
    assert found(scores.by_length) == {"0-10": (2, 2), "21-30": (0, 1)}
    assert found(scores.by_distance) == {"1-2": (1, 1), "3-5": (1, 1), "6-10": (0, 1)}
    assert found(scores.by_relations) == {"1": (0, 1), "2": (2, 2)}
    assert group_names(WORDS_BETWEEN) == ["0", "1-2", "3-5", "6-10", "11-20", "21+"]


@settings(max_examples=60, deadline=None)
@given(corpora(any_entities), st.sets(st.sampled_from(["near", "in"])))
def test_groups_by_relations_are_scores_of_their_sentences_alone(corpus, symmetric):
    gold, _ = corpus
    sizes = [count_slowly([one], [one], strict=True, symmetric=symmetric)[2] for one in gold]
    for measure, scores in score(*corpus, symmetric=symmetric).items():
        alone = {}
        for size in range(5):
            chosen = [[one for one, of in zip(side, sizes, strict=True) if of == size] for side in corpus]
            alone[str(size)] = score(*chosen, symmetric=symmetric)[measure].micro
        chosen = [[one for one, of in zip(side, sizes, strict=True) if of >= 5] for side in corpus]
        alone["5+"] = score(*chosen, symmetric=symmetric)[measure].micro
        assert scores.by_relations == {name: one for name, one in alone.items() if one.gold or one.predicted}


@pytest.mark.parametrize(("second", "expected"), [((1, 4), 0), ((3, 4), 0), ((4, 6), 1), ((0, 9), 0)])
def test_words_between(second, expected):
    first = Entity(0, 3, "a")
    assert words_between(first, Entity(*second, "b")) == words_between(Entity(*second, "b"), first) == expected


def test_counts_of_sentences_and_scores_without_anything():
    facts = find_facts([GOLD, GOLD], [AnnotatedSentence(WORDS), GOLD], "relation_f1")
    assert facts.sentence_counts().tolist() == [[0, 0, 2], [2, 2, 2]]
    assert precision_recall_f1(np.zeros((4, 3), dtype=np.int64)).tolist() == [[0.0] * 3] * 4
    assert all(scores.micro.f1 == 0 and scores.macro.types == 0 for scores in score([], []).values())
    assert tuple(score([], [])) == MEASURES


def test_other_sentences_are_refused():
    with pytest.raises(UserError, match="1 sentence predicted, but 2 in the gold data"):
        score([GOLD, GOLD], [GOLD])
    with pytest.raises(UserError, match="sentence 2 has other words"):
        score([GOLD, GOLD], [GOLD, AnnotatedSentence(("Anna",))])
