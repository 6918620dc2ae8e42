"""Random numbers that belong to (seed, step, lane): lane k of step t is the same batch on 1 rank or 64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray

FloatArray = NDArray[np.float64]

_COLLATE = 3  # keeps these numbers apart from the ones of data_shards.order


def lane_generator(seed: int, step: int, lane: int) -> np.random.Generator:
    """The stream of random numbers of a lane."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((_COLLATE, seed, step, lane))))


@dataclass(frozen=True)
class RandomDraws:
    """Uniform numbers in [0, 1) of one forward, for each of three purposes.

    Every purpose has its own place in a lane's stream, so that switching the last one off changes none of the others.
    """

    spans: FloatArray  # [records, span_columns]
    words: FloatArray  # [words]
    permutations: FloatArray  # [records, permutation_columns]

    @classmethod
    def draw(
        cls,
        *,
        seed: int,
        step: int,
        lanes: Sequence[int],
        lane_size: int,
        num_words: IntArray,
        span_columns: int,
        permutation_columns: int,
    ) -> RandomDraws:
        """Draw for the records of some lanes, lane after lane.

        Args:
            seed: the run's seed.
            step: the optimizer step.
            lanes: the lanes of this forward.
            lane_size: records per lane.
            num_words: words of every record, [len(lanes) * lane_size].
            span_columns: numbers per record for its spans.
            permutation_columns: numbers per record for its permutations.
        """
        spans, words, permutations = [np.empty((0, span_columns))], [np.empty(0)], [np.empty((0, permutation_columns))]
        words_of_lane = num_words.reshape(len(lanes), lane_size).sum(axis=1)
        for lane, count in zip(lanes, words_of_lane, strict=True):
            generator = lane_generator(seed, step, lane)
            spans.append(generator.random((lane_size, span_columns)))
            words.append(generator.random(int(count)))
            permutations.append(generator.random((lane_size, permutation_columns)))
        return cls(np.concatenate(spans), np.concatenate(words), np.concatenate(permutations))
