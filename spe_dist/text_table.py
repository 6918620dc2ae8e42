"""Tables and numbers of score reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spe_dist.finetuning.bootstrap import Estimate

UNDEFINED = "\N{EN DASH}"  # a share of nothing


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under each other: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        first, *rest = zip(row, widths, strict=True)
        lines.append("  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]))
    return "\n".join(lines)


def estimate_cell(estimate: Estimate, sign: str) -> str:
    """Mean, deviation over seeds and interval, in percent."""
    deviation = "" if estimate.deviation is None else f" ± {100 * estimate.deviation:.1f}"
    low, high = (f"{100 * end:{sign}.1f}" for end in (estimate.low, estimate.high))
    return f"{100 * estimate.mean:{sign}.1f}{deviation} [{low}, {high}]"


def seeds_cell(values: Sequence[float]) -> str:
    """Mean and deviation over seeds, in percent."""
    deviation = f" ± {100 * np.std(values, ddof=1):4.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{deviation}"


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """Mean of those that there are."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def percent(value: float | None) -> str:
    """A share in percent."""
    return UNDEFINED if value is None else f"{100 * value:.1f}"
