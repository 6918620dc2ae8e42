"""The five spans that a pair cuts a sentence into, and sentences in words for a person to read.

Spans are half-open ranges of whole words. A sentence of n words is `left, first, middle, second, right`, given by six
word boundaries 0 ≤ a ≤ b ≤ c ≤ d ≤ n of which [a, b) and [c, d) are the pair; left, middle and right may be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from data_shards.ragged import IntArray
from data_shards.shards.record import Records

LEFT, FIRST, MIDDLE, SECOND, RIGHT = range(5)
SPAN_NAMES = ("left", "FIRST", "middle", "SECOND", "right")
NUM_SPANS = len(SPAN_NAMES)


def word_texts(records: Records, row: int, ids: IntArray, piece: Callable[[int], str]) -> list[str]:
    """The words of one record whose pieces are `ids`, their pieces joined by `·`."""
    bounds = np.append(records.word_starts.row(row).astype(int), len(ids))
    return ["·".join(piece(i) for i in ids[a:b]) for a, b in pairwise(bounds)]


def span_lines(words: Sequence[str], word_boundaries: IntArray, *, width: int) -> list[str]:
    """A line for each of the five spans, its name padded to a width."""
    spans = zip(SPAN_NAMES, pairwise(word_boundaries), strict=True)
    return [f"  {name:{width}} {' '.join(words[a:b]) or '(empty)'}" for name, (a, b) in spans]
