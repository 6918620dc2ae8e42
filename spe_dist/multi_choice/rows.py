"""Questions as windows of pieces, and where in them each candidate occurs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.ragged import IntArray, Ragged, concat_ranges, offsets_from_lengths
from data_shards.shards.entity_words import words_of_characters
from data_shards.text.word_pieces import WordPieces
from spe_dist.batches.batch import PackedSequences, Tensors
from spe_dist.batches.packing import as_tensor
from spe_dist.documents.pooled_vectors import PooledPieces
from spe_dist.finetuning.question_windows import QuestionWindows, locate_pieces
from spe_dist.multi_choice.occurrences import locate_candidates
from spe_dist.multi_choice.question import MASK, Question

_LINE_END = re.compile("\n")
_MASK_OR_LINE_END = re.compile(rf"{MASK.pattern}|\n")


@dataclass(frozen=True)
class Candidates(Tensors):
    """The V candidates of Q questions that occur in what is read, question by question."""

    pooled: PooledPieces  # [V] mean over windows of the mean of its pieces there
    question: Tensor  # [V] int64, ascending
    number: Tensor  # [V] int64, in the list of its question, ascending in a question
    answers: Tensor  # [Q] int64, number of the answer in that list; -1 if it does not occur
    most: int  # candidates of a question


@dataclass(frozen=True)
class ChoiceRows:
    """A row for each question."""

    items: Sequence[Question]
    windows: QuestionWindows
    occurrences: Ragged  # [n, 4] window, candidate, first piece in the window, one after the last; by candidate, window
    mentioned: NDArray[np.int64]  # [rows] how many candidates occur in all of the texts
    max_pieces: int  # of a window

    @property
    def num_pieces(self) -> NDArray[np.int64]:
        """Pieces of the windows of each row, less the frame of one, [rows]."""
        ends = np.append(0, np.cumsum(self.windows.num_pieces + 2))
        return np.diff(ends[self.windows.windows.offsets]) - 2

    @property
    def is_cut(self) -> NDArray[np.bool_]:
        """Whether something of the query, or of the texts, is not read, [rows]."""
        return self.windows.is_cut | (self.windows.left_out > 0)

    def __len__(self) -> int:
        return len(self.items)

    def answers(self, rows: IntArray) -> NDArray[np.int64]:
        """Number of the answer of each question in its list; -1 if there is none, or it is not in what is read."""
        read = [set(self.occurrences.row(row)[:, 1].tolist()) for row in rows.tolist()]
        questions = [self.items[row] for row in rows.tolist()]
        numbers = [one.candidates.index(one.answer) if one.answer in one.candidates else -1 for one in questions]
        return np.array([n if n in seen else -1 for n, seen in zip(numbers, read, strict=True)], dtype=np.int64)

    def batch(self, rows: IntArray, device: torch.device) -> tuple[PackedSequences, Candidates]:
        """What a forward sees: all windows of the questions, and their candidates."""
        offsets = self.windows.windows.offsets
        counts = offsets[rows + 1] - offsets[rows]
        packed, first = self.windows.pack(concat_ranges(offsets[rows], counts))
        found = self.occurrences.take(rows)
        of_batch, (window, candidate, start, end) = found.row_index(), found.values.T
        first_windows = offsets_from_lengths(counts)[:-1]
        window = window - (offsets[rows] - first_windows)[of_batch]
        vectors, vector = np.unique(np.stack([of_batch, candidate]), axis=1, return_inverse=True)
        vector = vector.reshape(-1)
        in_window, together = np.unique(np.stack([vector, window]), axis=1, return_inverse=True)
        windows_of_vector = np.bincount(in_window[0], minlength=vectors.shape[1])
        pieces_in_window = np.bincount(together.reshape(-1), weights=end - start)[together.reshape(-1)]
        weights = np.repeat(1 / (windows_of_vector[vector] * pieces_in_window), end - start)
        lengths = np.bincount(vector, weights=end - start, minlength=vectors.shape[1]).astype(np.int64)
        pooled = PooledPieces(
            torch.from_numpy(concat_ranges(first[window] + start, end - start)),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(offsets_from_lengths(lengths)[:-1]),
        )
        candidates = Candidates(
            pooled,
            as_tensor(vectors[0]),
            as_tensor(vectors[1]),
            as_tensor(self.answers(rows)),
            max(len(self.items[row].candidates) for row in rows.tolist()),
        )
        return packed.to(device), candidates.to(device)


def encode(
    questions: Sequence[Question],
    word_pieces: WordPieces,
    *,
    masks: int,
    max_pieces: int,
    max_windows: int | None,
    max_query: int,
) -> ChoiceRows:
    """Cut questions into windows of the supports, with [SEP] between two of these, and find the candidates in them.

    A window ends where a word does, and not within an occurrence.

    Args:
        questions: with their supports.
        word_pieces: tokenizer of the encoder.
        masks: how many ids behind the vocabulary stand for masked candidates; 0: masks are text.
        max_pieces: see `ChoiceModelConfig`, as the two that follow.
        max_windows: maximum number of windows of a question.
        max_query: pieces of a query.
    """
    queries = locate_pieces([question.query.replace("_", " ") for question in questions], word_pieces).pieces
    texts, characters, begins = _pieces_of_texts([question.text for question in questions], word_pieces, masks)
    located = [locate_candidates(question) for question in questions]
    of_question = np.repeat(np.arange(len(questions)), [len(one) for one in located])
    rows = np.array([row for one in located for row in one], dtype=np.int64).reshape(-1, 3)
    first, last = words_of_characters(characters, rows[:, 1:] + begins[of_question, None])
    windows = QuestionWindows.cut(
        queries,
        texts,
        word_pieces.special_ids,
        max_pieces=max_pieces,
        max_question=max_query,
        may_break=_breaks(texts, characters, first, last),
        most=max_windows,
    )
    bounds = windows.windows.values + texts.offsets[windows.question, None]
    window = np.searchsorted(bounds[:, 0], first, side="right") - 1
    kept = np.flatnonzero((first < last) & (last <= bounds[window, 1]))
    window = window[kept]
    found = np.stack([window, rows[kept, 0], first[kept] - bounds[window, 0], last[kept] - bounds[window, 0]], axis=1)
    order = np.lexsort((found[:, 2], found[:, 0], found[:, 1], of_question[kept]))
    return ChoiceRows(
        questions,
        windows,
        Ragged.from_lengths(found[order], np.bincount(of_question[kept], minlength=len(questions))),
        np.array([len({candidate for candidate, _, _ in one}) for one in located], dtype=np.int64),
        max_pieces,
    )


def _pieces_of_texts(
    texts: Sequence[str], word_pieces: WordPieces, masks: int
) -> tuple[Ragged, NDArray[np.int64], NDArray[np.int64]]:
    """The pieces of each text [T], the characters of each piece over all texts [P, 2], and where texts begin [T + 1].

    A mask is one piece, whose id is its number behind the vocabulary; the end of a line is [SEP].
    """
    begins = offsets_from_lengths(np.array([len(text) + 1 for text in texts], dtype=np.int64))
    located = locate_pieces(texts, word_pieces)
    ids = located.pieces.values
    characters = located.characters.values + begins[located.pieces.row_index(), None]
    pattern, sep = _MASK_OR_LINE_END if masks else _LINE_END, word_pieces.special_ids.sep
    found = [
        (begin + one.start(), begin + one.end(), sep if one.group() == "\n" else word_pieces.vocab_size + int(one[1]))
        for text, begin in zip(texts, begins.tolist(), strict=False)
        for one in pattern.finditer(text)
    ]
    spans = np.array(found, dtype=np.int64).reshape(-1, 3)
    first, last = words_of_characters(characters, spans)
    replaced = concat_ranges(first, last - first)
    places = first - np.searchsorted(replaced, first)  # among the pieces that stay
    ids = np.insert(np.delete(ids, replaced), places, spans[:, 2])
    characters = np.insert(np.delete(characters, replaced, axis=0), places, spans[:, :2], axis=0)
    return Ragged(ids, np.searchsorted(characters[:, 0], begins)), characters, begins


def _breaks(texts: Ragged, characters: IntArray, first: IntArray, last: IntArray) -> Ragged:
    """Whether a window may end before each piece of a text, or behind its last one, [pieces + 1] of each text."""
    inner = np.zeros(len(characters) + 2, dtype=np.int64)
    np.add.at(inner, first + 1, 1)
    np.add.at(inner, np.maximum(last, first + 1), -1)
    allowed = np.cumsum(inner)[: len(characters) + 1] == 0
    allowed[1:-1] &= characters[1:, 0] != characters[:-1, 0]
    lengths = texts.lengths + 1
    return Ragged.from_lengths(allowed[concat_ranges(texts.offsets[:-1], lengths)], lengths)
