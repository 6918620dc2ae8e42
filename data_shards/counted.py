"""How many of something, in messages for people."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """The number and the word for it: 1 file, 1,200 files.

    Args:
        number: how many there are.
        what: one of them, a word with a regular plural: files, entities, processes.
    """
    if number == 1:
        return f"1 {what}"
    if what.endswith("y") and what[-2] not in "aeiou":
        return f"{number:,} {what[:-1]}ies"
    return f"{number:,} {what}{'es' if what.endswith('s') else 's'}"
