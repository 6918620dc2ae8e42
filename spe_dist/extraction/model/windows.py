"""Sentences longer than an encoder takes: cut into overlapping windows of whole words, and put together again.

Words are never cut off: a word longer than a whole window keeps its first pieces, and a word's state is its first
piece's. What windows promise, and what they cannot hold, is said by `cut_windows` and `find_misfits`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation


@dataclass(frozen=True, order=True)
class Window:
    """A run of words of a sentence.

    Args:
        word_start: its first word.
        word_end: one past its last word.
    """

    word_start: int
    word_end: int

    def holds(self, word_start: int, word_end: int) -> bool:
        """Whether a span of the sentence's words lies in the window."""
        return self.word_start <= word_start and word_end <= self.word_end


@dataclass(frozen=True)
class Misfits:
    """Annotations that lie in no window: a model that reads windows can neither learn nor find them."""

    entities: tuple[Entity, ...]
    relations: tuple[Relation, ...]


def cut_windows(word_pieces: Sequence[int], max_pieces: int, overlap: int) -> list[Window]:
    """Cut a sentence into windows of at most `max_pieces` pieces; a sentence that fits is one window.

    Every run of whole words with at most `overlap` pieces lies in at least one window: so does every entity that is no
    longer, and every pair of entities that is no longer from the start of the first to the end of the last.

    Args:
        word_pieces: pieces of each word, [words]. A word of more than `max_pieces` counts as so many: the caller cuts
            the rest of it off.
        max_pieces: maximum number of pieces of a window, without special pieces.
        overlap: in pieces, less than `max_pieces`.

    Returns:
        Windows in the order of the text. The last one is as long as it can be, too.
    """
    if not 0 <= overlap < max_pieces:
        raise ValueError(f"overlap must be at least 0 and less than max_pieces, not {overlap} of {max_pieces}")
    # Pieces before each word, [words + 1].
    offsets = list(accumulate((min(pieces, max_pieces) for pieces in word_pieces), initial=0))
    num_words = len(offsets) - 1
    windows: list[Window] = []
    start = 0
    while start < num_words:
        end = bisect_right(offsets, offsets[start] + max_pieces) - 1
        if end == num_words:
            # More text before it costs nothing, as the window is there anyway.
            first = bisect_left(offsets, offsets[num_words] - max_pieces)
            windows.append(Window(min(start, first), num_words))
            break
        windows.append(Window(start, end))
        # The first run of `overlap` pieces that this window does not hold ends with word `end`: go on where it begins.
        start = min(bisect_left(offsets, offsets[end + 1] - overlap), end)
    return windows


def deciding_window(windows: Sequence[Window], word_start: int, word_end: int) -> int | None:
    """Which window decides about a span: of those that hold it, the one that sees most words on its poorer side.

    A span cut short by a window's edge has no context there, so another window decides about it, and no span is decided
    twice. The sentence's own ends are no edges. With equal views, the first window.

    Returns:
        The window's number, or None if none holds the span.
    """
    last = windows[-1].word_end if windows else 0
    # Both ends of windows rise from one to the next, so those that hold a span stand side by side.
    first_holding = bisect_left(windows, word_end, key=lambda window: window.word_end)
    first_beyond = bisect_right(windows, word_start, key=lambda window: window.word_start)
    best, best_context = None, -1
    for number in range(first_holding, first_beyond):
        window = windows[number]
        before = word_start - window.word_start if window.word_start > 0 else last
        after = window.word_end - word_end if window.word_end < last else last
        if min(before, after) > best_context:
            best, best_context = number, min(before, after)
    return best


def take_window(sentence: AnnotatedSentence, window: Window) -> AnnotatedSentence:
    """A window as a sentence of its own, with the annotations that lie in it whole."""
    kept = [number for number, entity in enumerate(sentence.entities) if _holds(window, entity)]
    new_number = {number: new for new, number in enumerate(kept)}
    return AnnotatedSentence(
        sentence.words[window.word_start : window.word_end],
        tuple(_shift(sentence.entities[number], -window.word_start) for number in kept),
        tuple(
            Relation(new_number[relation.head], new_number[relation.tail], relation.type)
            for relation in sentence.relations
            if relation.head in new_number and relation.tail in new_number
        ),
        sentence.document,
        sentence.number,
    )


def stitch(
    sentence: AnnotatedSentence, windows: Sequence[Window], parts: Sequence[AnnotatedSentence]
) -> AnnotatedSentence:
    """Put what was found in windows together, counted in words of the sentence.

    An entity is believed where the deciding window of its words found it; a relation where the deciding window of all
    that lies between its arguments found it, and both arguments are believed.

    Args:
        sentence: the whole one; its words are kept, its annotations are not looked at.
        windows: windows of the sentence.
        parts: what was found in each window, counted in the window's words.

    Returns:
        The sentence with these annotations, sorted, each once.
    """
    found = [
        [_shift(entity, window.word_start) for entity in part.entities]
        for window, part in zip(windows, parts, strict=True)
    ]
    entities = sorted(
        {
            entity
            for number, in_window in enumerate(found)
            for entity in in_window
            if deciding_window(windows, entity.word_start, entity.word_end) == number
        }
    )
    new_number = {entity: number for number, entity in enumerate(entities)}
    relations = set()
    for number, part in enumerate(parts):
        for relation in part.relations:
            head, tail = found[number][relation.head], found[number][relation.tail]
            believed = head in new_number and tail in new_number
            if believed and deciding_window(windows, *_extent(head, tail)) == number:
                relations.add(replace(relation, head=new_number[head], tail=new_number[tail]))
    return AnnotatedSentence(
        sentence.words, tuple(entities), tuple(sorted(relations)), sentence.document, sentence.number
    )


def find_misfits(sentence: AnnotatedSentence, windows: Sequence[Window]) -> Misfits:
    """Annotations of a sentence that no window holds; with a relation, its two arguments must be in one window."""
    entities = sentence.entities
    return Misfits(
        tuple(entity for entity in entities if deciding_window(windows, entity.word_start, entity.word_end) is None),
        tuple(
            relation
            for relation in sentence.relations
            if deciding_window(windows, *_extent(entities[relation.head], entities[relation.tail])) is None
        ),
    )


def _holds(window: Window, entity: Entity) -> bool:
    return window.holds(entity.word_start, entity.word_end)


def _extent(head: Entity, tail: Entity) -> tuple[int, int]:
    return min(head.word_start, tail.word_start), max(head.word_end, tail.word_end)


def _shift(entity: Entity, words: int) -> Entity:
    return replace(entity, word_start=entity.word_start + words, word_end=entity.word_end + words)
