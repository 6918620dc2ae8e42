"""One forward of SPE (see `collate.py` for how it is made; legend of shapes: batches/batch.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from spe_dist.batches.batch import Batch, PackedSequences


@dataclass(frozen=True)
class ViewSizes:
    """How much of a packed batch its two views are, on the host."""

    pieces: int
    words: int
    longest: int


@dataclass(frozen=True, kw_only=True)
class SpanPairBatch(Batch):
    """Both views of R records: all pair views, then all context views, S = 2 R sequences.

    If TBO and SPO read whole sentences, these follow: S = 3 R. Without contrast there are no views then: S = R.
    """

    word_spans: Tensor  # [S, 5, 2] the five spans around the pair of each sequence, as packed words, half-open
    tbo_anchors: Tensor  # [T] packed index of the first piece of the hidden piece's word
    tbo_offsets: Tensor  # [T] offset of the hidden piece from its anchor, at least 1
    tbo_targets: Tensor  # [T] id of the hidden piece
    tbo_views: Tensor  # [T] 0: of the pair, which the pair view shows; 1: of the rest, which the context view shows
    spo_spans: Tensor  # [Q] index into the flattened [S * 5] spans
    spo_classes: Tensor  # [Q] which permutation, 0…5
    spo_views: Tensor  # [Q]
    view_sizes: ViewSizes  # none of it without views

    @property
    def views(self) -> SpanPairBatch:
        """What is contrasted: the batch without whole sentences."""
        sizes, packed = self.view_sizes, self.packed
        if sizes.pieces == len(packed.piece_ids):
            return self
        sequences = 2 * len(self.record_ids)
        return replace(
            self,
            packed=PackedSequences(
                piece_ids=packed.piece_ids[: sizes.pieces],
                positions=packed.positions[: sizes.pieces],
                sequence_starts=packed.sequence_starts[: sequences + 1],
                longest=sizes.longest,
            ),
            word_pieces=self.word_pieces[: sizes.words],
            word_spans=self.word_spans[:sequences],
        )
