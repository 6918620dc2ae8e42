"""How many of something, in messages for people."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """The number and the word for it: 1 file, 1,200 files.

    Args:
        number: of them.
        what: one of them, a word whose plural takes an s.
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"
