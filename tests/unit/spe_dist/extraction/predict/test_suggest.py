"""Which texts are suggested, against a slow search."""

import math
import random
from collections import Counter

import pytest

from spe_dist.extraction.predict.extracted_text import ExtractedEntity, ExtractedText
from spe_dist.extraction.predict.suggest import doubt_of, suggest

WORDS = ["ada", "bob", "in", "paris", "rome", "works", "at", "acme", "lake", "sea"]


def text(words: str, *scores: float) -> ExtractedText:
    entities = tuple(ExtractedEntity(0, 1, words[0], "P", score) for score in scores)
    return ExtractedText(words, entities, (), ((0, len(words)),))


def corpus(seed: int, size: int) -> list[tuple[dict, ExtractedText]]:
    draw = random.Random(seed)
    texts = []
    for number in range(size):
        scores = [draw.random() for _ in range(draw.randrange(3))]
        texts.append(({"id": number}, text(" ".join(draw.choices(WORDS, k=5)), *scores)))
    return texts


def cosine(first: str, second: str, having: Counter, size: int) -> float:
    vectors = []
    for words in (first, second):
        counts = Counter(words.split())
        vectors.append({word: counts[word] * (1 + math.log(size / having[word])) for word in counts})
    dot = sum(weight * vectors[1].get(word, 0) for word, weight in vectors[0].items())
    return dot / math.prod(math.sqrt(sum(weight**2 for weight in vector.values())) for vector in vectors)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_most_doubtful_of_different_words(seed):
    results = corpus(seed, 60)  # fewer than ten for each wanted: all of them are candidates
    doubtful = [one for one in results if doubt_of(one[1]) > 0]
    having = Counter(word for _, one in doubtful for word in set(one.text.split()))
    chosen = [one for one in suggest(iter(results), 9, seed=seed) if not one.at_random]
    assert len(chosen) == 8
    taken: list[ExtractedText] = []
    for one in chosen:
        gains = []
        for _, candidate in doubtful:
            similar = [1.0 if t is candidate else cosine(t.text, candidate.text, having, len(doubtful)) for t in taken]
            gains.append(doubt_of(candidate) * (1 - max(similar, default=0)))
        assert doubt_of(one.extracted) * (
            1 - max((cosine(t.text, one.extracted.text, having, len(doubtful)) for t in taken), default=0)
        ) == pytest.approx(max(gains))
        taken.append(one.extracted)


def test_doubt_is_largest_at_one_half():
    assert doubt_of(text("a")) == 0
    assert doubt_of(text("a", 0.5)) == 1
    assert doubt_of(text("a", 0.9, 0.4)) == pytest.approx((0.2 + 0.8) / 2)


def test_suggestions_repeat_have_no_twins_and_some_are_drawn():
    twins = [({}, text("the same words here", 0.5))] * 5
    results = corpus(4, 500) + twins + [({}, text(f"nothing found {number}")) for number in range(500)]
    first, again = (suggest(iter(results), 50, seed=1) for _ in range(2))
    assert first == again
    texts = [one.extracted.text for one in first]
    assert len(first) == len(set(texts)) == 50 and texts.count("the same words here") == 1
    drawn = [one for one in first if one.at_random]
    assert len(drawn) == 5
    other = [one for one in suggest(iter(results), 50, seed=2) if one.at_random]
    assert [one.number for one in other] != [one.number for one in drawn]
    assert all(results[one.number][1] is one.extracted for one in first)


def test_each_text_is_drawn_as_often():
    results = [({}, text(f"nothing {number}")) for number in range(5)]
    drawn = Counter(suggest(iter(results), 1, seed=seed)[0].number for seed in range(500))
    assert len(drawn) == 5 and min(drawn.values()) > 70


def test_fewer_texts_than_wanted():
    results = [({}, text("a b", 0.5)), ({}, text("c")), ({}, text("d e", 1.0))]
    assert sorted(one.number for one in suggest(iter(results), 10, seed=1)) == [0, 1, 2]
    assert suggest(iter([]), 3, seed=1) == []
