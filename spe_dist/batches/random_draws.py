"""Random numbers that belong to (seed, step, lane): lane k of step t is the same batch on 1 rank or 64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray

FloatArray = NDArray[np.float64]

_COLLATE = 3  # keeps these numbers apart from the ones of data_shards.order


@dataclass(frozen=True)
class RandomDraws:
    """Uniform numbers in [0, 1) of one forward: `per_record` [records, columns], `per_word` [words]."""

    per_record: FloatArray
    per_word: FloatArray

    @classmethod
    def draw(
        cls, *, seed: int, step: int, lanes: Sequence[int], lane_size: int, num_words: IntArray, columns: int
    ) -> RandomDraws:
        """Draw for the records of some lanes, lane after lane.

        Args:
            seed: the run's seed.
            step: the optimizer step.
            lanes: the lanes of this forward.
            lane_size: records per lane.
            num_words: words of every record, [len(lanes) * lane_size].
            columns: numbers per record.
        """
        per_record, per_word = [np.empty((0, columns))], [np.empty(0)]
        words_of_lane = num_words.reshape(len(lanes), lane_size).sum(axis=1)
        for lane, words in zip(lanes, words_of_lane, strict=True):
            generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_COLLATE, seed, step, lane))))
            per_record.append(generator.random((lane_size, columns)))
            per_word.append(generator.random(int(words)))
        return cls(np.concatenate(per_record), np.concatenate(per_word))
