"""A mention of a sentence, whose types are asked for."""

from __future__ import annotations

from typing import NamedTuple

GENERAL = ("entity", "event", "group", "location", "object", "organization", "person", "place", "time")
"""UFET's nine general types."""


class TypedMention(NamedTuple):
    """A mention, gold or predicted.

    `types` are in no order and without repetition; `scores` are those of the types, in their order.
    """

    id: str
    left: tuple[str, ...]
    mention: tuple[str, ...]
    right: tuple[str, ...]
    types: tuple[str, ...] = ()
    scores: tuple[float, ...] | None = None

    @property
    def question(self) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """All that is not the answer."""
        return self.id, self.left, self.mention, self.right
