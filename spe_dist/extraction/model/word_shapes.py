"""How words are written: what an uncased tokenizer throws away, and names can be known by."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SHAPES = (
    "no word",  # [CLS] and [SEP]
    "no letters or digits",
    "lower case",
    "Capitalised",
    "CAPITALS",
    "Initial",  # one capital letter
    "miXed",
    "digits",
    "letters and digits",
)
NO_WORD, SIGNS, LOWER, CAPITALISED, CAPITALS, INITIAL, MIXED, DIGITS, LETTERS_AND_DIGITS = range(len(SHAPES))


def word_shapes(words: Iterable[str]) -> NDArray[np.int64]:
    """The shape of each word, as a place in `SHAPES`, [W]."""
    return np.fromiter(map(word_shape, words), dtype=np.int64)


@lru_cache(maxsize=1 << 16)
def word_shape(word: str) -> int:
    """The shape of a word, as a place in `SHAPES`; letters without case count as lower case."""
    letters = [character for character in word if character.isalpha()]
    if any(character.isdigit() for character in word):
        return LETTERS_AND_DIGITS if letters else DIGITS
    if not letters:
        return SIGNS
    capitals = [letter.isupper() or letter.istitle() for letter in letters]
    if not any(capitals):
        return LOWER
    if all(capitals):
        return CAPITALS if len(letters) > 1 else INITIAL
    return CAPITALISED if capitals[0] and not any(capitals[1:]) else MIXED
