"""Rows in batches for prediction: of similar length, since attention on a CPU pads to the longest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray

MOST_PIECES = 1 << 14


def batches_of_rows(num_pieces: IntArray, *, batch_size: int = 256) -> Iterator[NDArray[np.int64]]:
    """Numbers of rows, from the shortest to the longest.

    Args:
        num_pieces: number of pieces of each row.
        batch_size: most rows of a batch; fewer where they have more than `MOST_PIECES` pieces.
    """
    order = np.argsort(num_pieces, kind="stable")
    first = 0
    while first < len(order):
        longest = num_pieces[order[first : first + batch_size]] + 2
        fitting = max(int(np.searchsorted(longest * np.arange(1, 1 + len(longest)), MOST_PIECES, side="right")), 1)
        yield order[first : first + fitting]
        first += fitting
