"""Rows of unequal length as two flat arrays (compressed sparse rows): what every shard, record and batch is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer]


def offsets_from_lengths(lengths: IntArray) -> NDArray[np.int64]:
    """Row boundaries [rows + 1] from row lengths [rows]."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def concat_ranges(starts: IntArray, lengths: IntArray) -> NDArray[np.int64]:
    """The ranges [start, start + length) of every row, one after another, as one index array."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: np.ndarray
    offsets: NDArray[np.int64]

    @classmethod
    def from_lengths(cls, values: np.ndarray, lengths: IntArray) -> Ragged:
        """Cut `values` into rows of the given lengths, which must add up to its size."""
        return cls(values, offsets_from_lengths(lengths))

    @classmethod
    def concat(cls, parts: Sequence[Ragged]) -> Ragged:
        """All rows of all parts, in order."""
        return cls.from_lengths(np.concatenate([p.values for p in parts]), np.concatenate([p.lengths for p in parts]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Row lengths, [rows]."""
        return self.offsets[1:] - self.offsets[:-1]

    def row(self, index: int) -> np.ndarray:
        """One row, as a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: IntArray) -> Ragged:
        """The given rows, in the given order (repeats allowed)."""
        starts = self.offsets[rows]
        lengths = self.offsets[1:][rows] - starts  # not `self.lengths[rows]`, which goes over all rows
        return Ragged.from_lengths(self.values[concat_ranges(starts, lengths)], lengths)

    def row_index(self) -> NDArray[np.int64]:
        """For every value the row it is in, [values]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)
