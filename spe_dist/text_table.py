"""Tables of text: columns under each other for a terminal, or Markdown, which is readable as text too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

UNDEFINED = "\N{EN DASH}"  # a share of nothing


def text_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """Columns under each other.

    Args:
        header: header of the columns.
        rows: cells; each row as long as the header.
        left: columns that are aligned to the left; the others are aligned to the right.
    """
    cells, widths = _cells_and_widths(header, rows)
    lines = [cells[0], ["-" * width for width in widths], *cells[1:]]
    return "\n".join("  ".join(_aligned(line, widths, left)) for line in lines)


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1, padded: bool = True
) -> str:
    """The same in Markdown.

    Args:
        header: header of the columns.
        rows: cells; each row as long as the header.
        left: columns that are aligned to the left.
        padded: whether columns are aligned in the text as well; if not, all are to the left.
    """
    cells, widths = _cells_and_widths(header, rows)
    if padded:
        widths = [max(width, 2) for width in widths]
        rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    else:
        widths, rule = [0] * len(header), ["---"] * len(header)
    return "\n".join(f"| {' | '.join(_aligned(line, widths, left))} |" for line in (cells[0], rule, *cells[1:]))


def _cells_and_widths(header: Sequence[str], rows: Iterable[Sequence[object]]) -> tuple[list[list[str]], list[int]]:
    cells = [list(map(str, line)) for line in (header, *rows)]
    return cells, [max(map(len, column)) for column in zip(*cells, strict=True)]


def _aligned(line: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    pairs = enumerate(zip(line, widths, strict=True))
    return [cell.ljust(width) if column < left else cell.rjust(width) for column, (cell, width) in pairs]
