"""A sentence with two entities whose relation is asked for."""

from __future__ import annotations

from typing import NamedTuple

WordSpan = tuple[int, int]  # words, half-open


class MarkedSentence(NamedTuple):
    """A sentence, gold or predicted.

    `relation` is None where there is none ("Other", "no_relation"), and where nobody has said. Where a relation has a
    direction, its name tells it as in SemEval: Cause-Effect(e1,e2), where e1 is the head.
    """

    id: str
    words: tuple[str, ...]
    head: WordSpan
    tail: WordSpan
    relation: str | None = None
    score: float | None = None

    @property
    def question(self) -> tuple[str, tuple[str, ...], WordSpan, WordSpan]:
        """All that is not the answer."""
        return self.id, self.words, self.head, self.tail
