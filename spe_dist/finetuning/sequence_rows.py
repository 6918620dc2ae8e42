"""Sentences as pieces, a sequence for each item, where a task asks about given spans of them.

cut_sentences  the words of sentences → the pieces that are read, and where spans are in them
SequenceRows   these → sequences of some of them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged, offsets_from_lengths
from data_shards.text.word_pieces import WordPieces
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences
from spe_dist.batches.packing import pack
from spe_dist.documents.pooled_vectors import PooledPieces
from spe_dist.finetuning.kept_pieces import keep_around
from spe_dist.finetuning.scoring import Item


class CutSentence(NamedTuple):
    """What is read of a sentence: ids without special ones; its spans, pieces of these; whether there were more."""

    ids: IntArray
    spans: list[tuple[int, int]]
    is_cut: bool


def cut_sentences(
    sentences: Sequence[tuple[Sequence[str], Sequence[tuple[int, int]]]], word_pieces: WordPieces, room: int
) -> Iterator[CutSentence]:
    """Cut sentences into pieces, and long ones to what is nearest to their spans (see `keep_around`).

    A span of which the tokenizer makes nothing is one unknown piece.

    Args:
        sentences: words of each, and its spans: words, half-open, none empty.
        word_pieces: tokenizer of the encoder.
        room: most pieces of a sentence.
    """
    pieces = word_pieces.encode_words([word for words, _ in sentences for word in words])
    first_words = offsets_from_lengths(np.array([len(words) for words, _ in sentences], dtype=np.int64))
    for (words, spans), first in zip(sentences, first_words.tolist(), strict=False):
        offsets = pieces.offsets[first : first + len(words) + 1]
        ids, offsets = pieces.values[offsets[0] : offsets[-1]], offsets - offsets[0]
        for start, end in spans:
            if offsets[start] == offsets[end]:
                ids = np.insert(ids, offsets[start], word_pieces.special_ids.unk)
                offsets = offsets + (np.arange(len(offsets)) > start)
        located = [(int(offsets[start]), int(offsets[end])) for start, end in spans]
        kept = keep_around(len(ids), located, room)
        yield CutSentence(
            ids[kept], [(int(a), int(b)) for a, b in np.searchsorted(kept, located)], len(kept) < len(ids)
        )


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
