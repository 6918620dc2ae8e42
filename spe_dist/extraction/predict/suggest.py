"""Which texts are worth annotating next: those of whose entities and relations a model is least sure, no two alike.

Doubt of a score p is 1 - |2p - 1|; that of a text is the mean over its entities and relations. Of the `_POOL` texts for
each wanted one that have the most doubt, they are taken one after another: always the one with the largest doubt times
1 - (cosine of tf-idf vectors of its words and those of the most similar text that is taken already). A tenth is drawn
at random from all texts: what a model overlooks leaves no doubt.
"""

from __future__ import annotations

import heapq
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spe_dist.extraction.predict.extracted_text import ExtractedText

_POOL = 10  # texts for each wanted one, among which similar ones are avoided; all of them are in memory
_AT_RANDOM = 0.1  # of the suggestions
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Suggestion:
    """A text to annotate.

    Args:
        number: number of the text among those read, from 0.
        fields: fields of the object that it came from.
        extracted: the text with what the model finds in it.
        doubt: from 0 (sure of everything, or nothing found) to 1.
        at_random: drawn, not chosen.
    """

    number: int
    fields: dict[str, Any]
    extracted: ExtractedText
    doubt: float
    at_random: bool = False


def suggest(results: Iterable[tuple[dict[str, Any], ExtractedText]], count: int, *, seed: int) -> list[Suggestion]:
    """The texts to annotate, the chosen ones first; all different texts if there are not enough.

    Args:
        results: fields and findings of each text; read once, 11 for each suggestion are in memory.
        count: number of suggestions.
        seed: seed of the draw, and of the order of equal doubts; the same results and seed give the same suggestions.
    """
    draw, ties = random.Random(seed), random.Random(seed + 1)
    pool: list[tuple[float, float, Suggestion]] = []  # a heap, the least doubtful first
    drawn: list[Suggestion] = []
    for number, (fields, extracted) in enumerate(results):
        one = Suggestion(number, fields, extracted, doubt_of(extracted))
        entry = (one.doubt, ties.random(), one)
        if one.doubt > 0 and len(pool) < _POOL * count:
            heapq.heappush(pool, entry)
        elif one.doubt > 0:
            heapq.heappushpop(pool, entry)
        place = draw.randrange(number + 1)  # algorithm R: each text is among those drawn with the same probability
        if len(drawn) < count:
            drawn.append(one)
        elif place < count:
            drawn[place] = one
    draw.shuffle(drawn)
    candidates = [one for *_, one in sorted(pool, key=lambda entry: entry[:2], reverse=True)]
    chosen = _different(candidates, count - math.ceil(_AT_RANDOM * count))
    known = {one.extracted.text for one in chosen}
    for one in drawn:
        if len(chosen) < count and one.extracted.text not in known:
            known.add(one.extracted.text)
            chosen.append(replace(one, at_random=True))
    return chosen


def doubt_of(extracted: ExtractedText) -> float:
    """How little the scores of a text decide, in 0..1: mean of 1 - |2 score - 1|; 0 if nothing is found in it."""
    scores = [one.score for one in extracted.entities] + [one.score for one in extracted.relations]
    return sum(1 - abs(2 * score - 1) for score in scores) / len(scores) if scores else 0.0


def _different(candidates: Sequence[Suggestion], count: int) -> list[Suggestion]:
    """Candidates of much doubt that are not similar; none whose words are those of another."""
    doubts = np.array([one.doubt for one in candidates])
    vectors = _vectors([one.extracted.text for one in candidates])
    postings: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for row, vector in enumerate(vectors):
        for word, weight in vector.items():
            postings[word][0].append(row)
            postings[word][1].append(weight)
    columns = {word: (np.array(rows), np.array(weights)) for word, (rows, weights) in postings.items()}
    most_similar = np.zeros(len(candidates))
    chosen: list[Suggestion] = []
    while len(chosen) < min(count, len(candidates)):
        gains = doubts * (1 - most_similar)
        best = int(gains.argmax())  # the first of equals
        if gains[best] <= 1e-9:
            break
        chosen.append(candidates[best])
        similar = np.zeros(len(candidates))
        for word, weight in vectors[best].items():
            rows, weights = columns[word]
            similar[rows] += weight * weights
        similar[best] = 1
        most_similar = np.maximum(most_similar, similar)
    return chosen


def _vectors(texts: Sequence[str]) -> list[dict[str, float]]:
    """The tf-idf vector of each text's words, of length 1."""
    counts = [Counter(_WORD.findall(text.casefold())) for text in texts]
    having = Counter(word for count in counts for word in count)
    vectors = []
    for count in counts:
        vector = {word: times * (1 + math.log(len(texts) / having[word])) for word, times in count.items()}
        length = math.sqrt(sum(weight**2 for weight in vector.values()))
        vectors.append({word: weight / length for word, weight in vector.items()})
    return vectors
