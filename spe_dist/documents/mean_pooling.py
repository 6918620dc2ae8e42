"""Vectors of spans, mentions and entities as means of last-layer states: no weights of their own (ERICA, eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from data_shards.ragged import IntArray, concat_ranges, offsets_from_lengths


@dataclass(frozen=True)
class PooledPieces:
    """Which packed pieces each of V vectors is a mean of: first over the pieces of a mention, then over the mentions.

    Every mention counts alike, however long it is: a piece weighs 1 / (mentions · pieces of the mention).
    """

    pieces: Tensor  # [N] packed index
    weights: Tensor  # [N] fp32
    starts: Tensor  # [V] where the pieces of each vector begin

    @classmethod
    def of_mentions(cls, pieces: IntArray, vectors: IntArray, size: int) -> PooledPieces:
        """From mentions.

        Args:
            pieces: first packed piece of each mention, and the one after its last, [M, 2]; no mention is empty.
            vectors: which vector each mention belongs to, ascending, [M].
            size: number of vectors, V.
        """
        lengths = pieces[:, 1] - pieces[:, 0]
        mentions = np.bincount(vectors, minlength=size)
        starts = offsets_from_lengths(np.bincount(vectors, weights=lengths, minlength=size).astype(np.int64))
        weights = np.repeat(1 / (mentions[vectors] * lengths), lengths)
        return cls(
            torch.from_numpy(concat_ranges(pieces[:, 0], lengths)),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(starts[:-1]),
        )

    def to(self, device: torch.device) -> PooledPieces:
        """The same on a device."""
        return PooledPieces(self.pieces.to(device), self.weights.to(device), self.starts.to(device))

    def means(self, states: Tensor) -> Tensor:
        """The vectors in fp32, [V, H], of states [P, H]; 0 for a vector without mentions."""
        return nn.functional.embedding_bag(
            self.pieces, states.float(), self.starts, mode="sum", per_sample_weights=self.weights
        )
