"""How much an interval's steps had to compute, counted without padding: what model FLOPs and speeds are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spe_dist.batches.batch import SIZES

WORK = (*SIZES, "comparisons")


@dataclass(frozen=True)
class Work:
    """Sums over some steps of all ranks."""

    counts: Mapping[str, int]  # items of each term of the loss
    forwards: int  # of all ranks
    pieces: int  # of all sequences, both views
    squared_lengths: int  # Σ n² over sequences of n pieces: what attention is over
    padded_pieces: int  # what the pieces would be if every sequence were as long as the longest of its forward
    words: int
    pairs: int = 0  # of spans or entities, encoded
    context_words: int = 0  # that an encoder of contexts reads beside the one of spans
    comparisons: int = 0  # Σ records · keys in the queue, of one direction

    @property
    def padding_saved(self) -> float:
        """Share of a padded program's pieces that would be padding; 0 if there were none."""
        return 1 - self.pieces / self.padded_pieces if self.padded_pieces else 0.0
