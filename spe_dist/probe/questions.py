"""Transplanted span pairs: which of N pairs stood in this sentence?

A question is the context view of a sentence; its candidates are N pair views, of its own pair and of N - 1 other
sentences' pairs, all put into the frame of this sentence: the words of another pair stand in the places of its own, all
else is [MASK], as many of them as in training. Only pairs whose words have as many pieces, one by one, are put in. So
number of pieces, places of the spans and word boundaries are equal by construction, and whoever does not read words
finds 1 in N.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.errors import UserError
from data_shards.ragged import IntArray, Ragged
from data_shards.shards.record import Records
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences
from spe_dist.batches.packing import pack
from spe_dist.methods.run_summary import MaskUnit
from spe_dist.methods.spe.spans import COLUMNS, sample_span_pairs
from spe_dist.methods.spe.views import (
    CONTEXT_VIEW,
    PAIR_VIEW,
    PackedViews,
    pack_shown,
    pieces_in_pair,
    show_view,
    words_in_pair,
)

GEOMETRIC_P, MAX_WORDS = 0.2, 10  # of span lengths, the paper's: every encoder gets the same questions
_APART = 500  # records between a sentence and those whose pairs it is given: another text
_FREQUENT_SHARE = 0.5  # the most frequent words that make up so much of all text are no content words
_WORD_HASH = 1_099_511_628_211


@dataclass(frozen=True)
class Questions:
    """Q questions of N candidates each, of which the first is right."""

    records: Records  # the sentences, [Q]
    word_boundaries: NDArray[np.int64]  # [Q, 6]
    candidates: Ragged  # [Q * N] pieces of the first and of the second span
    shares_word: NDArray[np.bool_]  # [Q] a content word of the pair stands in the context too
    touches_end: NDArray[np.bool_]  # [Q] the pair begins or ends the sentence
    special: SpecialIds
    mask_unit: MaskUnit = "piece"

    def __len__(self) -> int:
        return len(self.records)

    @property
    def candidates_each(self) -> int:
        """Number of candidates of each question, N."""
        return len(self.candidates) // len(self.records)

    def context_views(self, rows: IntArray) -> PackedViews:
        """What the questions show."""
        records, boundaries = self.records.take(rows), self.word_boundaries[rows]
        ids = np.where(pieces_in_pair(records, boundaries), self.special.mask, records.pieces.values)
        return self._pack(records, boundaries, ids, view=CONTEXT_VIEW)

    def pair_views(self, rows: IntArray) -> PackedViews:
        """All candidates of the questions, question after question, in the frames of these."""
        n = self.candidates_each
        repeated = np.repeat(rows, n)
        records, boundaries = self.records.take(repeated), self.word_boundaries[repeated]
        ids = np.full(len(records.pieces.values), self.special.mask, dtype=np.int64)
        ids[pieces_in_pair(records, boundaries)] = self.candidates.take(_of_questions(rows, n)).values
        return self._pack(records, boundaries, ids, view=PAIR_VIEW)

    def context_texts(self, rows: IntArray) -> PackedSequences:
        """The sentences without their pairs, as plain text."""
        records = self.records.take(rows)
        shown = ~pieces_in_pair(records, self.word_boundaries[rows])
        lengths = np.bincount(records.pieces.row_index()[shown], minlength=len(records))
        return pack(records.pieces.values[shown], lengths, self.special)[1]

    def pair_texts(self, rows: IntArray) -> PackedSequences:
        """All candidates of the questions as plain text, question after question."""
        pieces = self.candidates.take(_of_questions(rows, self.candidates_each))
        return pack(pieces.values, pieces.lengths, self.special)[1]

    def _pack(self, records: Records, boundaries: NDArray[np.int64], ids: IntArray, *, view: int) -> PackedViews:
        shown = show_view(records, boundaries, ids.astype(np.int64), view=view, mask_unit=self.mask_unit)
        return pack_shown([shown], self.special)[1]


def draw_questions(
    records: Records,
    special: SpecialIds,
    *,
    questions: int,
    candidates: int,
    seed: int,
    source: str,
    mask_unit: MaskUnit = "piece",
) -> Questions:
    """Draw a span pair in each sentence, as training does, and questions about some of them.

    Args:
        records: sentences in the order of their texts.
        special: ids of [CLS], [SEP] and [MASK].
        questions: Q.
        candidates: N.
        seed: seed of all that is drawn.
        source: where the sentences are from.
        mask_unit: what becomes one [MASK] in a view.

    Raises:
        UserError: there are too few sentences with enough pairs of one frame.
    """
    generator = np.random.default_rng(seed)
    num_words = records.word_starts.lengths
    boundaries = sample_span_pairs(
        num_words, generator.random((len(records), COLUMNS)), geometric_p=GEOMETRIC_P, max_words=MAX_WORDS
    )
    pairs = _Pairs.of(records, boundaries)
    chosen: list[list[int]] = []
    for row in generator.permutation(np.flatnonzero(pairs.has_content & pairs.context_has_content)).tolist():
        others = pairs.strangers_of(row, generator, most=candidates - 1)
        if len(others) == candidates - 1:
            chosen.append([row, *others])
        if len(chosen) == questions:
            break
    else:
        raise UserError(
            f"{source}: only {len(chosen):,} of {len(records):,} sentences have {candidates - 1} others whose pairs "
            f"have the same length and word boundaries, fewer than the {questions} questions: give more sentences "
            "(--pool, or larger shards), or lower --questions or --candidates"
        )
    rows = np.array([candidates[0] for candidates in chosen])
    return Questions(
        records=records.take(rows),
        word_boundaries=boundaries[rows],
        candidates=pairs.pieces.take(np.array(chosen).reshape(-1)),
        shares_word=pairs.shares_word[rows],
        touches_end=(boundaries[rows, 1] == 0) | (boundaries[rows, 4] == num_words[rows]),
        special=special,
        mask_unit=mask_unit,
    )


@dataclass(frozen=True)
class _Pairs:
    """The drawn pair of every sentence."""

    pieces: Ragged
    texts: list[bytes]
    frames: list[bytes]  # words of the first span, and pieces of each word of both
    alike: dict[bytes, NDArray[np.int64]]  # rows by frame
    has_content: NDArray[np.bool_]
    context_has_content: NDArray[np.bool_]
    shares_word: NDArray[np.bool_]

    @classmethod
    def of(cls, records: Records, boundaries: NDArray[np.int64]) -> _Pairs:
        in_pair, in_pair_pieces = words_in_pair(records, boundaries), pieces_in_pair(records, boundaries)
        sentences, size = records.word_starts.row_index(), len(records)
        pieces = _ragged(records.pieces.values[in_pair_pieces], records.pieces.row_index()[in_pair_pieces], size)
        lengths = _ragged(records.pieces_per_word[in_pair], sentences[in_pair], size)
        words_of_first = boundaries[:, 2] - boundaries[:, 1]
        frames = [words_of_first[row].tobytes() + lengths.row(row).tobytes() for row in range(size)]
        rows: dict[bytes, list[int]] = defaultdict(list)
        for row, frame in enumerate(frames):
            rows[frame].append(row)
        words = _word_numbers(records)
        content, count = _content_words(words)[words], words.max() + 1
        in_pairs, in_contexts = (np.unique((sentences * count + words)[content & of]) for of in (in_pair, ~in_pair))
        return cls(
            pieces=pieces,
            texts=[pieces.row(row).tobytes() for row in range(size)],
            frames=frames,
            alike={frame: np.array(of_frame) for frame, of_frame in rows.items()},
            has_content=_are_among(in_pairs // count, size),
            context_has_content=_are_among(in_contexts // count, size),
            shares_word=_are_among(np.intersect1d(in_pairs, in_contexts) // count, size),
        )

    def strangers_of(self, row: int, generator: np.random.Generator, *, most: int) -> list[int]:
        """Random sentences of other texts whose pairs fit into this one's frame, each pair with other words."""
        alike = self.alike[self.frames[row]]
        alike = alike[(np.abs(alike - row) > _APART) & self.has_content[alike]]
        found, texts = [], {self.texts[row]}
        if len(alike) < most:
            return []
        for other in generator.permutation(alike).tolist():
            if self.texts[other] not in texts:
                found.append(other)
                texts.add(self.texts[other])
            if len(found) == most:
                break
        return found


def _are_among(rows: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Whether each row is among the given ones, [size]."""
    return np.bincount(rows, minlength=size) > 0


def _of_questions(rows: IntArray, candidates: int) -> NDArray[np.int64]:
    """Indices of all candidates of some questions."""
    return (rows[:, None] * candidates + np.arange(candidates)).reshape(-1)


def _word_numbers(records: Records) -> NDArray[np.int64]:
    """A number for every word, equal for equal words, [words]."""
    lengths = records.pieces_per_word
    starts = records.first_pieces
    place = np.arange(len(records.pieces.values)) - np.repeat(starts, lengths)
    mixed = (records.pieces.values.astype(np.uint64) + np.uint64(1)) * np.uint64(_WORD_HASH) ** (
        place.astype(np.uint64) + np.uint64(1)
    )
    return np.unique(np.add.reduceat(mixed, starts), return_inverse=True)[1]


def _content_words(words: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each word number stands for a content word."""
    counts = np.bincount(words)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    content = np.empty(len(counts), dtype=bool)
    content[order] = before >= _FREQUENT_SHARE * len(words)
    return content


def _ragged(values: np.ndarray, rows: NDArray[np.int64], size: int) -> Ragged:
    return Ragged.from_lengths(values, np.bincount(rows, minlength=size))


def batches_of(count: int, size: int) -> Sequence[NDArray[np.int64]]:
    """Numbers 0 … count - 1 in runs of a size."""
    return np.split(np.arange(count), np.arange(size, count, size))
