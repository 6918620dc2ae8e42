"""Questions about long texts, as windows that an encoder can read: [CLS] question [SEP] window [SEP], segments 0 and 1.

locate_pieces     texts → pieces, each with the characters of its word
cut_windows       a text of so many pieces → its windows
QuestionWindows   questions and texts → all windows, and sequences of some of them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged, concat_ranges, offsets_from_lengths
from data_shards.text.word_pieces import WordPieces
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences
from spe_dist.batches.packing import as_tensor, pack

_SPECIALS = 3  # [CLS] and two [SEP]


@dataclass(frozen=True)
class LocatedPieces:
    """T texts as pieces."""

    pieces: Ragged  # int32 ids without special ones, [T]
    characters: Ragged  # [pieces, 2] of the word that each piece is of, half-open, counted in its text, [T]


def locate_pieces(texts: Sequence[str], word_pieces: WordPieces) -> LocatedPieces:
    """Cut texts of any length into pieces; words of which the tokenizer makes nothing have none."""
    words = word_pieces.locate_words(texts)
    offsets = words.pieces.offsets[words.word_offsets]
    characters = np.repeat(words.characters, words.pieces.lengths, axis=0)
    return LocatedPieces(Ragged(words.pieces.values.astype(np.int32), offsets), Ragged(characters, offsets))


def cut_windows(
    pieces: int,
    room: int,
    *,
    stride: int | None = None,
    may_break: NDArray[np.bool_] | None = None,
    most: int | None = None,
) -> NDArray[np.int64]:
    """The windows of a text, one at least, [windows, 2]: pieces, half-open.

    Args:
        pieces: pieces of the text.
        room: most pieces of a window.
        stride: from the beginning of a window to that of the next, or the room if that is less. None: a window begins
            where the one before ends.
        may_break: whether a window may end before a piece, or behind the last one, [pieces + 1]; looked at without
            stride. Where the room holds no such place, a window is as long as the room.
        most: windows; what is behind the last of them is left out.
    """
    windows: list[tuple[int, int]] = []
    start = 0
    while True:
        end = min(start + room, pieces)
        if end < pieces and stride is None and may_break is not None:
            places = np.flatnonzero(may_break[start + 1 : end + 1])
            end = start + 1 + int(places[-1]) if len(places) else end
        windows.append((start, end))
        if end == pieces or len(windows) == most:
            return np.array(windows, dtype=np.int64)
        start = end if stride is None else start + min(stride, room)


@dataclass(frozen=True)
class QuestionWindows:
    """W windows of the texts of Q questions, those of a question one after another."""

    questions: Ragged  # ids, not more than there is room for, [Q]
    texts: Ragged  # ids, all of them, [Q]
    windows: Ragged  # [windows, 2] pieces of the text, half-open, [Q]
    is_cut: NDArray[np.bool_]  # [Q] whether the question had more pieces
    special: SpecialIds

    @classmethod
    def cut(
        cls,
        questions: Ragged,
        texts: Ragged,
        special: SpecialIds,
        *,
        max_pieces: int,
        max_question: int,
        stride: int | None = None,
        may_break: Ragged | None = None,
        most: int | None = None,
    ) -> QuestionWindows:
        """Cut texts into windows, and what is too long of a question off its end.

        Args:
            questions: ids without special ones, [Q].
            texts: ids without the special ones of the frame, of the text of each question, [Q].
            special: ids of the frame.
            max_pieces: longest sequence, [CLS] and both [SEP] included.
            max_question: most pieces of a question; never more than half of what there is room for.
            stride: see `cut_windows`, as the two that follow.
            may_break: of each text.
            most: windows of each text.
        """
        limit = min(max_question, (max_pieces - _SPECIALS) // 2)
        lengths = np.minimum(questions.lengths, limit)
        kept = Ragged.from_lengths(questions.values[concat_ranges(questions.offsets[:-1], lengths)], lengths)
        windows = [
            cut_windows(
                text,
                max_pieces - _SPECIALS - question,
                stride=stride,
                may_break=None if may_break is None else may_break.row(number),
                most=most,
            )
            for number, (text, question) in enumerate(zip(texts.lengths.tolist(), lengths.tolist(), strict=True))
        ]
        rows = np.concatenate([np.zeros((0, 2), dtype=np.int64), *windows])
        counts = np.array([len(of_text) for of_text in windows], dtype=np.int64)
        return cls(kept, texts, Ragged.from_lengths(rows, counts), questions.lengths > limit, special)

    @property
    def question(self) -> NDArray[np.int64]:
        """The question of each window, [W]."""
        return self.windows.row_index()

    @property
    def num_pieces(self) -> NDArray[np.int64]:
        """Pieces of the sequence of each window without [CLS] and the last [SEP], [W]."""
        return self.questions.lengths[self.question] + 1 + (self.windows.values[:, 1] - self.windows.values[:, 0])

    @property
    def left_out(self) -> NDArray[np.int64]:
        """Pieces of each text behind its last window, [Q]."""
        return self.texts.lengths - self.windows.values[self.windows.offsets[1:] - 1, 1]

    def pack(self, windows: IntArray) -> tuple[PackedSequences, NDArray[np.int64]]:
        """Sequences of some windows.

        Args:
            windows: their numbers, [S].

        Returns:
            The sequences, and of each the packed index of the window's first piece, [S].
        """
        question = np.searchsorted(self.windows.offsets, windows, side="right") - 1
        (starts, ends), of = self.windows.values[windows].T, self.questions.take(question)
        framed = of.lengths + 1 + ends - starts
        offsets = offsets_from_lengths(framed)
        ids = np.full(offsets[-1], self.special.sep, dtype=np.int64)
        ids[concat_ranges(offsets[:-1], of.lengths)] = of.values
        first = offsets[:-1] + of.lengths + 1
        in_text = concat_ranges(self.texts.offsets[question] + starts, ends - starts)
        ids[concat_ranges(first, ends - starts)] = self.texts.values[in_text]
        _, packed = pack(ids, framed, self.special)
        first += 1 + 2 * np.arange(len(windows))  # behind the frames of the sequences before
        segments = np.zeros(len(packed.piece_ids), dtype=np.int64)
        segments[concat_ranges(first, ends - starts + 1)] = 1  # and of the [SEP] behind it
        return replace(packed, segments=as_tensor(segments)), first
