"""False relations, against a slow count of every pair."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from spe_dist.extraction.scores.false_relations import false_relations
from tests.unit.spe_dist.extraction.random_sentences import any_entities, corpora
from tests.unit.spe_dist.extraction.tiny import sentence

pytestmark = pytest.mark.any_version

SCORES = (0.1, 0.3, 0.5, 0.7, 0.9)


def scored(one, scores):
    """The sentence whose relations have these scores."""
    relations = tuple(
        Relation(relation.head, relation.tail, relation.type, score)
        for relation, score in zip(one.relations, scores, strict=True)
    )
    return AnnotatedSentence(one.words, one.entities, relations)


@st.composite
def scored_corpora(draw):
    gold, predicted = draw(corpora(any_entities))
    drawn = [draw(st.lists(st.sampled_from(SCORES), min_size=len(one.relations), max_size=len(one.relations)))
             for one in predicted]  # fmt: skip
    return gold, [scored(one, scores) for one, scores in zip(predicted, drawn, strict=True)]


def spans(one, relation):
    return [(one.entities[end].word_start, one.entities[end].word_end) for end in (relation.head, relation.tail)]


def counted(gold, predicted, least, *, strict):
    """(falsely related, unrelated) pairs, one word span after the other."""
    related = unrelated = 0
    for true, guess in zip(gold, predicted, strict=True):
        if strict and true.relations:
            continue
        places = sorted({(entity.word_start, entity.word_end) for entity in true.entities})
        for number, first in enumerate(places):
            for second in places[number + 1 :]:
                ends = ([first, second], [second, first])
                if any(spans(true, relation) in ends for relation in true.relations):
                    continue
                unrelated += 1
                related += any(spans(guess, one) in ends and one.score >= least for one in guess.relations)
    return related, unrelated


def strict_facts(one, least):
    return {
        (one.entities[relation.head], one.entities[relation.tail], relation.type)
        for relation in one.relations
        if relation.score is None or relation.score >= least
    }


@given(scored_corpora())
def test_rates_are_those_of_counting_every_pair(corpus):
    gold, predicted = corpus
    found = false_relations(gold, predicted, SCORES)
    true = sum(len(strict_facts(one, 0)) for one in gold)

    def right(least):
        return sum(
            len(strict_facts(one, 0) & strict_facts(guess, least)) for one, guess in zip(gold, predicted, strict=True)
        )

    for point, least in zip(found.curve, SCORES, strict=True):
        for rate, strict in ((point.rate, False), (point.strict_rate, True)):
            related, unrelated = counted(gold, predicted, least, strict=strict)
            assert rate == (pytest.approx(related / unrelated) if unrelated else None)
        assert point.recall == (pytest.approx(right(least) / true) if true else None)
    assert found.pairs == counted(gold, predicted, 0, strict=False)[1]
    assert found.strict_pairs == counted(gold, predicted, 0, strict=True)[1]
    everything = right(0)
    if not everything:
        assert found.at_kept_recall is None
        return
    least = max(score for score in SCORES if right(score) >= 0.9 * everything)
    assert found.at_kept_recall.least_score == least
    assert found.at_kept_recall.recall == pytest.approx(right(least) / true)


def test_by_hand():
    """Ten right relations; a false one with more and one with less than the score of the ninth."""
    gold = [sentence("a b c", "0-1:X 1-2:X 2-3:Y", "0>1:r")] * 10 + [sentence("a b", "0-1:X 1-2:X")] * 5
    right = [scored(one, [0.5 + 0.04 * number]) for number, one in enumerate(gold[:10])]
    wrong = [scored(sentence("a b", "0-1:Z 1-2:X", "1>0:other"), [score]) for score in (0.9, 0.52)]
    found = false_relations(gold, [*right, *wrong, *gold[12:]], [0.0])
    assert (found.pairs, found.strict_pairs) == (25, 5)  # a c and b c of the first ten
    assert (found.curve[0].recall, found.curve[0].rate, found.curve[0].strict_rate) == (1.0, 2 / 25, 2 / 5)
    kept = found.at_kept_recall
    assert (kept.least_score, kept.recall, kept.rate, kept.strict_rate) == (pytest.approx(0.54), 0.9, 1 / 25, 1 / 5)


def test_wrong_boundaries_are_no_false_relation_and_no_scores_no_numbers():
    gold = [sentence("a b c", "0-1:X 2-3:X")]
    assert false_relations(gold, [scored(sentence("a b c", "0-2:X 2-3:X", "0>1:r"), [0.9])], [0.0]).curve[0].rate == 0
    assert false_relations(gold, [sentence("a b c", "0-1:X 2-3:X", "0>1:r")], [0.0]) is None
    assert Entity(0, 1, "X") in gold[0].entities
