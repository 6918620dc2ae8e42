"""Offsets in a text: the units that programs count them in, and the characters that they mean.

Python counts Unicode code points, which is what this project calls characters; programs in JavaScript, Java and C#
count UTF-16 units, some others the bytes of UTF-8.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from data_shards.ragged import IntArray, offsets_from_lengths

OffsetUnit = Literal["characters", "utf16", "bytes"]

NAME_OF_UNIT: dict[OffsetUnit, str] = {
    "characters": "characters",
    "utf16": "UTF-16 units",
    "bytes": "bytes of UTF-8",
}


def code_points(text: str) -> IntArray:
    """The number of each character, [C]."""
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)


def widths(text: str, unit: OffsetUnit) -> IntArray:
    """How many units each character takes, [C]."""
    points = code_points(text)
    match unit:
        case "characters":
            return np.ones_like(points)
        case "utf16":
            return 1 + (points > 0xFFFF)
        case "bytes":
            return 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)


def characters_at(offsets: IntArray, begins: IntArray) -> IntArray:
    """The character that begins at each offset, or C at the end of the text; -1 where none begins.

    Args:
        offsets: in any shape.
        begins: the offset of each character, and of the end, ascending, [C + 1].
    """
    found = np.searchsorted(begins, offsets, side="right") - 1
    return np.where(begins[found] == offsets, found, -1)


class TextOffsets:
    """The offsets of one text.

    Args:
        text: the text.
        unit: what they count.
    """

    def __init__(self, text: str, unit: OffsetUnit) -> None:
        self._unit, self._text = unit, text
        self._begins = None if unit == "characters" else offsets_from_lengths(widths(text, unit))
        self._length = len(text) if self._begins is None else int(self._begins[-1])

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The characters of a span, half-open.

        Raises:
            ValueError: it is empty, reaches beyond the text, or begins or ends inside a character; says which, as a
                part of a sentence about an entity.
        """
        name = NAME_OF_UNIT[self._unit]
        if start >= end:
            raise ValueError(f"begins at {start} and ends at {end}, so it is empty: ends are exclusive")
        if not 0 <= start < end <= self._length:
            length = f"{self._length}{self._other_lengths()}"
            raise ValueError(f"is on {name} {start} up to, not including, {end}, but the text has {length}")
        if self._begins is None:
            return start, end
        first, last = characters_at(np.array([start, end]), self._begins).tolist()
        if min(first, last) < 0:
            raise ValueError(f"is on {name} {start} up to, not including, {end}: this is inside a character")
        return first, last

    def _other_lengths(self) -> str:
        lengths = {unit: int(widths(self._text, unit).sum()) for unit in NAME_OF_UNIT if unit != self._unit}
        differing = [f"{length} {NAME_OF_UNIT[unit]}" for unit, length in lengths.items() if length != self._length]
        return f" ({', '.join(differing)})" if differing else ""
