"""Lines that are no texts: how many are passed over, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

from data_shards.counted import counted
from data_shards.errors import UserError

_SHOWN = 3
_KEPT = 5


class BadLines:
    """Counts them, and ends the command when there are too many.

    Args:
        limit: how many are passed over.
    """

    def __init__(self, limit: int = 0) -> None:
        if limit < 0:
            raise UserError(f"--max-bad-lines must not be negative, not {limit}")
        self.limit = limit
        self.count = 0
        self.examples: list[str] = []

    def add(self, *examples: str, count: int = 1) -> None:
        """Count some more.

        Args:
            examples: where they are and what is wrong with them, for people; they need not be all of them.
            count: how many there are.

        Raises:
            UserError: there are too many.
        """
        self.count += count
        self.examples += examples[: _KEPT - len(self.examples)]
        if self.count > self.limit:
            raise UserError(self._complaint(examples))

    def _complaint(self, last: Sequence[str]) -> str:
        if self.limit == 0:
            return f"{last[0]}: fix or remove it (--max-bad-lines N skips up to N of them)"
        shown = "; ".join(self.examples[:_SHOWN])
        return f"more than {counted(self.limit, 'bad line')} (--max-bad-lines), such as {shown}"

    def __str__(self) -> str:
        """Number and examples of the lines that were skipped, for people."""
        shown = "; ".join(self.examples[:_SHOWN])
        return f"{counted(self.count, 'bad line')}, such as {shown}" if self.count else "nothing"
