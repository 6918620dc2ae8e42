"""Random numbers that belong to (seed, step, lane): lane k of step t is the same batch on 1 rank or 64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_COLLATE = 3  # keeps these numbers apart from the ones of data_shards.shards.order


def lane_generator(seed: int, step: int, lane: int) -> np.random.Generator:
    """The stream of random numbers of a lane."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((_COLLATE, seed, step, lane))))
