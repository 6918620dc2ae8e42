"""Spans of text, as people mark them, → ranges of whole words: the units the encoders were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_shards.errors import UserError
from data_shards.ragged import IntArray, Ragged
from data_shards.text.word_pieces import WordPieces

Span = str | tuple[int, int]
"""The span's text, if it occurs once, or its characters `(start, end)`, half-open."""
WordSpan = tuple[int, int]


@dataclass(frozen=True)
class MarkedText:
    """A text as words and pieces; words without pieces (control characters) are left out, as in the shards."""

    text: str
    word_characters: tuple[tuple[int, int], ...]  # half-open, [words]
    pieces: Ragged  # of each word, [words]

    @classmethod
    def of(cls, text: str, word_pieces: WordPieces) -> MarkedText:
        """Cut a text as the shards were cut."""
        words = word_pieces.words(text)
        pieces = word_pieces.encode_words(words)
        kept = np.flatnonzero(pieces.lengths > 0)
        characters = _places(text, words)
        return cls(text, tuple(characters[index] for index in kept), pieces.take(kept))

    @property
    def piece_ids(self) -> IntArray:
        """Ids of all pieces, without special ones."""
        return self.pieces.values

    @property
    def word_starts(self) -> IntArray:
        """First piece of each word, [words]."""
        return self.pieces.offsets[:-1]

    def word_span(self, span: Span) -> WordSpan:
        """The words of a span, half-open.

        Raises:
            UserError: not in the text, there more than once, or not made of whole words; names the nearest words.
        """
        if isinstance(span, str):
            return self._word_span_of_text(span)
        start, end = span
        if not 0 <= start < end <= len(self.text):
            raise UserError(
                f"span ({start}, {end}) is not inside {_short(self.text)}: "
                f"give characters with 0 <= start < end <= {len(self.text)}"
            )
        found = self._whole_words(start, end)
        if found is None:
            raise UserError(self._not_whole_words(start, end))
        return found

    def five_spans(self, first: Span, second: Span) -> list[WordSpan]:
        """Left, first, middle, second and right span of a pair; a pair in reverse order is put in text order.

        Raises:
            UserError: a span is not one (see `word_span`), or the two share words.
        """
        (a, b), (c, d) = sorted([self.word_span(first), self.word_span(second)])
        if c < b:
            raise UserError(
                f"the spans {first!r} and {second!r} of {_short(self.text)} overlap: a pair's spans must not"
            )
        return [(0, a), (a, b), (b, c), (c, d), (d, len(self.word_characters))]

    def _word_span_of_text(self, span: str) -> WordSpan:
        places = _occurrences(self.text, span)
        if not places:
            raise UserError(
                f"span {span!r} does not occur in {_short(self.text)}: mark a part of the text, in its case"
            )
        found = {place: words for place in places if (words := self._whole_words(*place)) is not None}
        if not found:
            raise UserError(self._not_whole_words(*places[0]))
        if len(found) > 1:
            raise UserError(
                f"span {span!r} occurs {len(found)} times in {_short(self.text)}: "
                f"give its characters instead, one of {', '.join(map(str, found))}"
            )
        return next(iter(found.values()))

    def _whole_words(self, start: int, end: int) -> WordSpan | None:
        starts = {characters[0]: word for word, characters in enumerate(self.word_characters)}
        ends = {characters[1]: word + 1 for word, characters in enumerate(self.word_characters)}
        return (starts[start], ends[end]) if start in starts and end in ends else None

    def _not_whole_words(self, start: int, end: int) -> str:
        near = [c for c in self.word_characters if c[0] < end and c[1] > start]
        near = near or sorted(self.word_characters, key=lambda c: min(abs(c[0] - end), abs(c[1] - start)))[:1]
        what = f"span {self.text[start:end]!r} at ({start}, {end}) of {_short(self.text)} is not made of whole words"
        if not near:
            return f"{what}: the text has none"
        begin, finish = near[0][0], near[-1][1]
        return f"{what}: the nearest are {self.text[begin:finish]!r} at ({begin}, {finish})"


def _places(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Characters of consecutive words."""
    places, end = [], 0
    for word in words:
        start = text.index(word, end)
        end = start + len(word)
        places.append((start, end))
    return places


def _occurrences(text: str, part: str) -> list[tuple[int, int]]:
    if not part:
        return []
    starts = [at for at in range(len(text) - len(part) + 1) if text.startswith(part, at)]
    return [(at, at + len(part)) for at in starts]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
