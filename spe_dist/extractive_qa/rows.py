"""Questions with their contexts as windows of pieces, and what of a window may be an answer.

A context that several questions are about is cut into pieces once. An answer begins and ends with a word: it may begin
at the first piece of a word, in the one window where that piece has most context, and end at the last piece of a word.
So each span of words is looked at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.ragged import IntArray, Ragged, concat_ranges, offsets_from_lengths
from data_shards.text.word_pieces import WordPieces
from spe_dist.batches.batch import PackedSequences
from spe_dist.extractive_qa.decoding import most_context
from spe_dist.extractive_qa.model import QaSettings
from spe_dist.extractive_qa.question import Question
from spe_dist.finetuning.question_windows import LocatedPieces, QuestionWindows, locate_pieces

_ANSWERS = 4  # most answers of a question to learn, as ERICA's program


@dataclass(frozen=True)
class QaRows:
    """A row for each of W windows of Q questions, those of a question one after another."""

    items: Sequence[Question]
    windows: QuestionWindows
    contexts: LocatedPieces
    context: NDArray[np.int64]  # [Q] which context a question is about
    targets: NDArray[np.int64]  # [Q, A, 3] first and last piece of answers, how many chose each; (-1, -1, 0): none

    @cached_property
    def may_be(self) -> Ragged:
        """Whether an answer may begin, or end, at each piece of each window, bool [pieces, 2], [W]; for prediction."""
        return _may_be(self.windows, self.contexts, self.context)

    @property
    def is_cut(self) -> NDArray[np.bool_]:
        """Whether the end of a question is not read, [Q]."""
        return self.windows.is_cut

    @property
    def num_pieces(self) -> NDArray[np.int64]:
        """Pieces of each row, [W]."""
        return self.windows.num_pieces

    def __len__(self) -> int:
        return len(self.windows.windows.values)

    def answers_inside(self, rows: IntArray) -> NDArray[np.bool_]:
        """Which answers are all in the window of a row, [S, A]."""
        (starts, ends), targets = self.windows.windows.values[rows].T, self.targets[self.windows.question[rows]]
        return (targets[..., 0] >= starts[:, None]) & (targets[..., 1] < ends[:, None])

    def batch(self, rows: IntArray, device: torch.device) -> tuple[PackedSequences, Tensor, Tensor]:
        """What a forward sees: sequences, places of answers [S, A, 2], their weights [S, A].

        An answer weighs what share of annotators chose it, of those whose answer is in the window. Where there is none,
        the place of [CLS] weighs 1.
        """
        packed, begin = self._pack(rows)
        inside, targets = self.answers_inside(rows), self.targets[self.windows.question[rows]]
        places = targets[..., :2] + (begin - self.windows.windows.values[rows, 0])[:, None, None]
        weights = np.where(inside, targets[..., 2], 0).astype(np.float32)
        weights[~inside.any(axis=1), 0] = 1
        weights /= weights.sum(axis=1, keepdims=True)
        places = np.where(inside[..., None], places, 0)
        return packed.to(device), torch.from_numpy(places).to(device), torch.from_numpy(weights).to(device)

    def candidates(self, rows: IntArray, device: torch.device) -> tuple[PackedSequences, Tensor, NDArray[np.int64]]:
        """What answers are chosen from.

        Returns:
            Sequences; whether an answer may begin, or end, at each place, [S, longest, 2]; what to add to a place in a
            sequence to get the piece of the text, [S].
        """
        packed, begin = self._pack(rows)
        taken = self.may_be.take(rows)
        may_be = np.zeros((len(rows), packed.longest, 2), dtype=np.bool_)
        may_be[taken.row_index(), concat_ranges(begin, taken.lengths)] = taken.values
        return packed.to(device), torch.from_numpy(may_be).to(device), self.windows.windows.values[rows, 0] - begin

    def characters_of(self, question: IntArray, pieces: IntArray) -> tuple[list[int], list[int]]:
        """Where words begin, and end, in the contexts of questions [N], of their first and last pieces, [N, 2]."""
        characters = self.contexts.characters
        first, last = (pieces + characters.offsets[self.context[question]][:, None]).T
        return characters.values[first, 0].tolist(), characters.values[last, 1].tolist()

    def _pack(self, rows: IntArray) -> tuple[PackedSequences, NDArray[np.int64]]:
        """Sequences, and where the window begins in each, [S]."""
        packed, first = self.windows.pack(rows)
        return packed, first - packed.sequence_starts[:-1].numpy()


def encode(questions: Sequence[Question], settings: QaSettings, word_pieces: WordPieces, *, max_pieces: int) -> QaRows:
    """Cut questions and contexts into pieces, and these into windows.

    Args:
        questions: with their contexts.
        settings: settings of the model.
        word_pieces: tokenizer of the encoder.
        max_pieces: most that the encoder has positions for, [CLS] and [SEP] included.
    """
    numbers: dict[str, int] = {}
    context = np.array([numbers.setdefault(one.context, len(numbers)) for one in questions], dtype=np.int64)
    contexts = locate_pieces(list(numbers), word_pieces)
    windows = QuestionWindows.cut(
        locate_pieces([one.question for one in questions], word_pieces).pieces,
        contexts.pieces.take(context),
        word_pieces.special_ids,
        max_pieces=min(settings.max_pieces, max_pieces),
        max_question=settings.max_question,
        stride=settings.stride,
    )
    return QaRows(questions, windows, contexts, context, _targets(questions, contexts, context))


def _targets(questions: Sequence[Question], contexts: LocatedPieces, context: IntArray) -> NDArray[np.int64]:
    """First and last piece of the words that each answer covers, at least in part; the most frequent answers first."""
    found = np.full((len(questions), _ANSWERS, 3), (-1, -1, 0), dtype=np.int64)
    for number, one in enumerate(questions):
        starts, ends = contexts.characters.row(context[number]).T
        firsts = np.searchsorted(ends, [start for start, _ in one.spans], side="right")
        lasts = np.searchsorted(starts, [end for _, end in one.spans], side="left") - 1
        counts = Counter(span for span in zip(firsts.tolist(), lasts.tolist(), strict=True) if span[0] <= span[1])
        for place, ((first, last), count) in enumerate(counts.most_common(_ANSWERS)):
            found[number, place] = first, last, count
    return found


def _may_be(windows: QuestionWindows, contexts: LocatedPieces, context: IntArray) -> Ragged:
    """Whether an answer may begin, or end, at each piece of each window."""
    (starts, ends), question = windows.windows.values.T, windows.question
    words, sizes = contexts.characters.values, ends - starts
    other_word = np.ones(len(words) + 1, dtype=np.bool_)  # than the piece before
    other_word[1:-1] = (words[1:] != words[:-1]).any(axis=1)
    other_word[contexts.characters.offsets] = True
    pieces = concat_ranges(contexts.characters.offsets[context[question]] + starts, sizes)
    begins = other_word[pieces] & most_context(question, starts, sizes)
    return Ragged(np.stack([begins, other_word[pieces + 1]], axis=1), offsets_from_lengths(sizes))
