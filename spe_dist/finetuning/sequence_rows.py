"""Sentences as pieces, a sequence for each item, where a task asks about given spans of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences
from spe_dist.batches.packing import pack
from spe_dist.documents.pooled_vectors import PooledPieces
from spe_dist.finetuning.scoring import Item


@dataclass(frozen=True)
class SequenceRows(Generic[Item]):
    """A row for each item; long ones are cut to what is nearest to their spans (see `keep_around`)."""

    items: Sequence[Item]
    pieces: Ragged  # special ones not included, [rows]
    spans: NDArray[np.int64]  # [rows, 2] or [rows, spans, 2] pieces that vectors are means of, half-open
    is_cut: NDArray[np.bool_]  # [rows]
    special: SpecialIds

    @property
    def num_pieces(self) -> NDArray[np.int64]:
        """Pieces of each row, [rows]."""
        return self.pieces.lengths

    def __len__(self) -> int:
        return len(self.items)

    def pack(self, rows: IntArray) -> tuple[PackedSequences, PooledPieces]:
        """Sequences of some rows, and their spans, those of a row in turn."""
        taken = self.pieces.take(rows)
        _, packed = pack(taken.values, taken.lengths, self.special)
        first = packed.sequence_starts[:-1].numpy().astype(np.int64) + 1
        spans = (self.spans[rows].reshape(len(rows), -1, 2) + first[:, None, None]).reshape(-1, 2)
        return packed, PooledPieces.of_mentions(spans, np.arange(len(spans)), len(spans))

    def about_cut(self, max_pieces: int, asked: str) -> list[str]:
        """How many rows are cut, for people; `asked` is what the spans are."""
        if not (cut := int(self.is_cut.sum())):
            return []
        long = f"{cut:,} of {len(self):,} training sentences are longer than {max_pieces} pieces"
        return [f"{long}: they are cut to what is nearest to their {asked}"]
