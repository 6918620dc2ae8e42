"""The random numbers of a forward of SPE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_shards.ragged import IntArray
from spe_dist.batches.random_draws import FloatArray, lane_generator


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
