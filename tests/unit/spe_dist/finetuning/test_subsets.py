from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.errors import UserError
from spe_dist.finetuning.subsets import choose_fraction
from tests.unit.data_shards.annotated.sentences import annotated_sentences


def a_training_set() -> list[AnnotatedSentence]:
    """1,000 sentences: half without entities, then one in 2, 10 and 50 with a type of relation of its own."""
    sentences = []
    for number in range(1000):
        entities, relations = [], []
        if number % 2 == 0:
            entities = [Entity(0, 1, "X"), Entity(1, 2, "X")]
        if number % 10 == 0:
            relations.append(Relation(0, 1, "often"))
        if number % 50 == 0:
            relations.append(Relation(0, 1, "seldom"))
        sentences.append(AnnotatedSentence((str(number), "x"), tuple(entities), tuple(relations)))
    return sentences


def take_fraction(sentences: list[AnnotatedSentence], fraction: float, seed: int) -> list[AnnotatedSentence]:
    labels = [
        {f"entity {entity.type}" for entity in one.entities}
        | {f"relation {relation.type}" for relation in one.relations}
        for one in sentences
    ]
    return [sentences[number] for number in choose_fraction(labels, fraction, seed)]


def count_types(sentences: list[AnnotatedSentence]) -> Counter:
    return Counter(relation.type for sentence in sentences for relation in sentence.relations)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_the_mix_of_types_stays(fraction, seed):
    taken = take_fraction(a_training_set(), fraction, seed)
    assert len(taken) == 1000 * fraction
    assert abs(count_types(taken)["seldom"] - 20 * fraction) <= 1
    assert abs(count_types(taken)["often"] - 100 * fraction) <= 2
    assert abs(sum(not sentence.entities for sentence in taken) - 500 * fraction) <= 2


@settings(deadline=None)
@given(st.lists(annotated_sentences(max_words=4), max_size=20), st.integers(0, 5), st.data())
def test_a_smaller_fraction_is_part_of_a_larger_one(sentences, seed, data):
    small, large = sorted(data.draw(st.lists(st.floats(0.01, 1), min_size=2, max_size=2)))
    numbered = [AnnotatedSentence(s.words, s.entities, s.relations, "", n) for n, s in enumerate(sentences)]
    few, many = (take_fraction(numbered, fraction, seed) for fraction in (small, large))
    assert {sentence.number for sentence in few} <= {sentence.number for sentence in many}
    assert [sentence.number for sentence in many] == sorted({sentence.number for sentence in many})
    assert len(few) == (max(1, round(small * len(sentences))) if sentences else 0)
    assert take_fraction(numbered, 1, seed) == numbered


def test_seeds_differ_and_repeat():
    sentences = a_training_set()
    assert take_fraction(sentences, 0.1, 1) == take_fraction(sentences, 0.1, 1)
    assert take_fraction(sentences, 0.1, 1) != take_fraction(sentences, 0.1, 2)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(UserError, match="more than 0 and at most 1"):
        take_fraction([], fraction, 0)
