"""Span pairs (SPE paper): two spans that do not overlap, drawn at random."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray
from spe_dist.batches.random_draws import FloatArray

COLUMNS = 3  # random numbers per record


def sample_span_pairs(
    num_words: IntArray, uniforms: FloatArray, *, geometric_p: float, max_words: int
) -> NDArray[np.int64]:
    """Draw one span pair per sentence.

    Lengths are independent draws of a geometric distribution truncated to 1…max_words (in sentences too short for
    every pair of lengths: conditioned on fitting). Given the lengths, all placements are equally likely.

    Args:
        num_words: words per sentence, at least 2, [records].
        uniforms: random numbers in [0, 1), [records, 3].
        geometric_p: success probability of the geometric distribution.
        max_words: longest span.

    Returns:
        word_boundaries [records, 6] (see `batches/five_spans.py`).
    """
    cumulative = _length_pair_cumulative(geometric_p, max_words)[np.minimum(num_words, 2 * max_words)]
    pair = (uniforms[:, :1] >= cumulative[:, :-1]).sum(axis=1)
    first_length, second_length = pair // max_words + 1, pair % max_words + 1
    # Placements = ways to spread the free words over three gaps = ways to pick 2 bars out of free + 2 places.
    places = num_words - first_length - second_length + 2
    bar = (uniforms[:, 1] * places).astype(np.int64)
    other_bar = (uniforms[:, 2] * (places - 1)).astype(np.int64)
    other_bar += other_bar >= bar
    left = np.minimum(bar, other_bar)
    middle = np.maximum(bar, other_bar) - left - 1
    zeros = np.zeros_like(left)
    steps = (zeros, left, first_length, middle, second_length)
    boundaries = np.cumsum(np.stack(steps, axis=1), axis=1)
    return np.concatenate([boundaries, num_words[:, None]], axis=1)


@lru_cache(maxsize=8)
def _length_pair_cumulative(geometric_p: float, max_words: int) -> FloatArray:
    """Row n: cumulative probability of each pair of lengths in a sentence of n words, [2 max_words + 1, max_words²]."""
    lengths = np.arange(1, max_words + 1)
    mass = geometric_p * (1 - geometric_p) ** (lengths - 1)
    joint = np.outer(mass, mass) / mass.sum() ** 2
    together = lengths[:, None] + lengths[None, :]
    table = np.ones((2 * max_words + 1, max_words**2))
    for num_words in range(2, 2 * max_words + 1):
        cumulative = np.cumsum(np.where(together <= num_words, joint, 0.0))
        table[num_words] = cumulative / cumulative[-1]  # in this order the last possible pair ends at 1 exactly
    return table
