"""Entities as words: found from their characters, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from data_shards.ragged import IntArray, Ragged
from data_shards.shards.record import Records

CHANGES = ("widened", "across_sentences", "overlapping", "without_words")


@dataclass(frozen=True)
class WordsOfEntities:
    """The entities of S sentences, and how many are not as they were listed."""

    entities: Ragged
    """Rows (first word, word after the last, type), words counted in their sentence, [S]."""
    changes: Mapping[str, int]
    """`widened` to whole words; left out because they reach across sentences, overlap a longer one or hold no word."""


def words_of_entities(words: IntArray, word_offsets: IntArray, entities: IntArray) -> WordsOfEntities:
    """Find the words of entities.

    An entity has all the words that it shares a character with. Of entities that share words the longest is kept, of
    equally long ones the first.

    Args:
        words: characters of each word, half-open, ascending over all sentences, [W, 2].
        word_offsets: which words each sentence has, [S + 1].
        entities: first character, character after the last, type; not empty, in any order, [E, 3].
    """
    first, last = words_of_characters(words, entities)
    filled = first < last
    without_words = int((~filled).sum())
    first, last, entities = first[filled], last[filled], entities[filled]
    sentence = np.searchsorted(word_offsets, first, side="right") - 1
    inside = last <= word_offsets[sentence + 1]
    across = int((~inside).sum())
    first, last, entities, sentence = first[inside], last[inside], entities[inside], sentence[inside]
    kept = _without_overlaps(first, last, len(words))
    overlapping = len(first) - len(kept)
    first, last, entities, sentence = first[kept], last[kept], entities[kept], sentence[kept]
    widened = (words[first, 0] < entities[:, 0]) | (words[last - 1, 1] > entities[:, 1])
    rows = np.stack([first - word_offsets[sentence], last - word_offsets[sentence], entities[:, 2]], axis=1)
    counts = np.bincount(sentence, minlength=len(word_offsets) - 1)
    changes = dict(zip(CHANGES, (int(widened.sum()), across, overlapping, without_words), strict=True))
    return WordsOfEntities(Ragged.from_lengths(rows, counts), changes)


def words_of_characters(words: IntArray, characters: IntArray) -> tuple[IntArray, IntArray]:
    """The words that ranges of characters touch.

    Args:
        words: characters of each word, half-open, ascending, [W, 2].
        characters: half-open ranges in the first two columns, [E, 2 or more].

    Returns:
        First word, and word after the last, of each range, [E] each; equal where it touches none.
    """
    first = np.searchsorted(words[:, 1], characters[:, 0], side="right")
    last = np.searchsorted(words[:, 0], characters[:, 1], side="left")
    return first, np.maximum(first, last)


def entity_problems(records: Records, types: int) -> Iterator[str]:
    """What is wrong with the entities of records, a line for each kind of problem.

    Args:
        records: with entities.
        types: how many there are.
    """
    first, last, type = records.entities.values.astype(np.int64).T
    record = records.entities.row_index()
    same_record = record[1:] == record[:-1]
    problems = {
        "are empty": first >= last,
        "reach beyond the words of their record": last > records.word_starts.lengths[record],
        "are not in order, or overlap": np.append(False, same_record & (first[1:] < last[:-1])),
        f"have a type beyond the {types} that the manifest lists": type >= types,
    }
    for problem, found in problems.items():
        if found.any():
            yield f"entities {problem}: {found.sum()}, such as one of record {record[np.argmax(found)]}"


def _without_overlaps(first: IntArray, last: IntArray, words: int) -> IntArray:
    """Which ranges of words to keep so that none share a word, in the order of their words."""
    taken = np.zeros(words, dtype=bool)
    kept = []
    for index in np.lexsort((first, first - last)):
        if not taken[first[index] : last[index]].any():
            taken[first[index] : last[index]] = True
            kept.append(index)
    found = np.array(kept, dtype=np.int64)
    return found[np.argsort(first[found])]
