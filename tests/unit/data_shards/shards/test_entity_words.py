"""Characters of entities → words, against a slow and obvious way."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.ragged import Ragged
from data_shards.shards.entity_words import entity_problems, words_of_entities
from data_shards.shards.record import Records

Sentence = list[tuple[int, int]]


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[Sentence], list[tuple[int, int, int]]]:
    """Sentences of words (characters, with gaps), and entities anywhere."""
    sentences, end = [], draw(st.integers(0, 2))
    for _ in range(draw(st.integers(0, 4))):
        words = []
        for _ in range(draw(st.integers(0, 5))):
            start = end + draw(st.integers(0, 1))
            end = start + draw(st.integers(1, 3))
            words.append((start, end))
        end += draw(st.integers(0, 2))
        sentences.append(words)
    span = st.tuples(st.integers(0, end + 2), st.integers(1, 6), st.integers(0, 2))
    return sentences, [(start, start + length, type) for start, length, type in draw(st.lists(span, max_size=8))]


def slowly(sentences: list[Sentence], entities: list[tuple[int, int, int]]) -> tuple[list[list[tuple]], dict[str, int]]:
    """Each entity as the set of characters it has, each word too."""
    changes = dict.fromkeys(("widened", "across_sentences", "overlapping", "without_words"), 0)
    candidates = []
    for number, (start, end, type) in enumerate(entities):
        characters = set(range(start, end))
        touched = [
            (s, w)
            for s, words in enumerate(sentences)
            for w, word in enumerate(words)
            if characters & set(range(*word))
        ]
        if not touched:
            changes["without_words"] += 1
        elif len({s for s, _ in touched}) > 1:
            changes["across_sentences"] += 1
        else:
            outside = any(set(range(*sentences[s][w])) - characters for s, w in touched)
            first, last = touched[0][1], touched[-1][1]
            candidates.append((first - last, touched[0], number, (first, last + 1, type), set(touched), outside))
    taken, rows = set(), [[] for _ in sentences]
    for _, (sentence, _), _, row, touched, outside in sorted(candidates, key=lambda c: c[:3]):
        if taken & touched:
            changes["overlapping"] += 1
        else:
            taken |= touched
            rows[sentence].append(row)
            changes["widened"] += outside
    return [sorted(row) for row in rows], changes


@settings(max_examples=1000, deadline=None)
@given(texts())
def test_equals_the_slow_way(text: tuple[list[Sentence], list[tuple[int, int, int]]]) -> None:
    sentences, entities = text
    words = np.array([word for sentence in sentences for word in sentence], dtype=np.int64).reshape(-1, 2)
    offsets = np.cumsum([0, *map(len, sentences)])
    found = words_of_entities(words, offsets, np.array(entities, dtype=np.int64).reshape(-1, 3))
    rows = [list(map(tuple, found.entities.row(index).tolist())) for index in range(len(sentences))]
    assert (rows, found.changes) == slowly(sentences, entities)
    records = Records(found.entities, Ragged(words, offsets), entities=found.entities)
    assert list(entity_problems(records, 3)) == []


def test_problems_are_found() -> None:
    word_starts = Ragged.from_lengths(np.zeros(6, dtype=np.uint8), np.array([3, 3]))

    def problems(*rows: tuple[int, int, int]) -> str:
        entities = Ragged.from_lengths(np.array(rows, dtype=np.uint16), np.array([1, len(rows) - 1]))
        return " ".join(entity_problems(Records(word_starts, word_starts, entities=entities), 2))

    assert problems((2, 3, 0), (0, 1, 1), (1, 3, 0)) == ""
    assert "entities are empty: 1, such as one of record 1" in problems((0, 1, 0), (2, 2, 0))
    assert "entities reach beyond the words of their record: 1, such" in problems((2, 4, 0), (0, 1, 0))
    assert "not in order, or overlap: 1, such as one of record 1" in problems((0, 1, 0), (0, 2, 0), (1, 3, 0))
    assert "not in order" in problems((0, 1, 0), (1, 2, 0), (0, 1, 0))
    assert "beyond the 2 that the manifest lists" in problems((0, 1, 2), (0, 1, 1))
