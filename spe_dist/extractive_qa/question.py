"""A question about a context, whose answer is a span of it."""

from __future__ import annotations

from typing import NamedTuple


class Found(NamedTuple):
    """An answer that a model gives: `start` and `end` are characters of the context, half-open."""

    text: str
    start: int
    end: int
    score: float


class Question(NamedTuple):
    """A question, gold or predicted.

    `answers` are texts, any of which is right; `spans` what is learned, characters of the context, half-open, as often
    as annotators chose it. `found` are the answers of a model, best first; None of a question that no model has read.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    found: tuple[Found, ...] | None = None
