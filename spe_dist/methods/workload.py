"""How much an interval's steps had to compute, counted without padding: what model FLOPs and speeds are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """Sums over some steps of all ranks."""

    counts: Mapping[str, int]  # items of each term of the loss, and what else the method counts
    forwards: int  # of all ranks
    pieces: int  # of all sequences
    squared_lengths: int  # Σ n² over sequences of n pieces: what attention is over
    padded_pieces: int  # what the pieces would be if every sequence were as long as the longest of its forward
    words: int

    @property
    def padding_saved(self) -> float:
        """Share of a padded program's pieces that would be padding; 0 if there were none."""
        return 1 - self.pieces / self.padded_pieces if self.padded_pieces else 0.0
