"""Drawn sentences in words: what the model sees, for a person to read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from spe_dist.batches.collate_span_pairs import DrawnSentences
from spe_dist.batches.permutations import CLASSES

SPAN_NAMES = ("left", "FIRST", "middle", "SECOND", "right")
_UNITS = ("first word", "words between", "last word")


def describe(drawn: DrawnSentences, row: int, piece: Callable[[int], str]) -> str:
    """One sentence: its five spans, both views, hidden pieces and permutations.

    Args:
        drawn: sentences with what was drawn for them.
        row: which one.
        piece: the text of a piece id.
    """
    begin, end = drawn.records.pieces.offsets[row : row + 2]
    ids = drawn.records.pieces.values[begin:end]
    bounds = np.append(drawn.records.word_starts.row(row).astype(int), len(ids))
    words = ["·".join(piece(i) for i in ids[a:b]) for a, b in pairwise(bounds)]
    spans = drawn.word_boundaries[row]
    lines = [f"{len(words)} words, {len(ids)} pieces"]
    lines += [
        f"  {name:8} {' '.join(words[a:b]) or '(empty)'}"
        for name, a, b in zip(SPAN_NAMES, spans[:-1], spans[1:], strict=True)
    ]
    lines += [f"  permuted {text}" for text in _permutations(drawn, row)]
    lines += [f"  hidden   {text}" for text in _hidden(drawn, int(begin), int(end), piece)]
    lines += [
        f"  {name:8} {' '.join(piece(i) for i in view[begin:end])}"
        for name, view in (("pair", drawn.pair_ids), ("context", drawn.context_ids))
    ]
    return "\n".join(lines)


def _permutations(drawn: DrawnSentences, row: int) -> list[str]:
    permuted = drawn.permuted
    texts = []
    for index in np.nonzero(permuted.records == row)[0]:
        order = ", ".join(_UNITS[unit] for unit in CLASSES[permuted.classes[index]])
        texts.append(f"{SPAN_NAMES[permuted.spans[index]]}: class {permuted.classes[index]} ({order})")
    return texts


def _hidden(drawn: DrawnSentences, begin: int, end: int, piece: Callable[[int], str]) -> list[str]:
    hidden, values = drawn.hidden, drawn.records.pieces.values
    texts = []
    for index in np.nonzero((hidden.pieces >= begin) & (hidden.pieces < end))[0]:
        place = hidden.pieces[index]
        view = "pair" if drawn.in_pair[place] else "context"
        anchor = piece(values[hidden.anchors[index]])
        texts.append(f"{piece(values[place])} (place {hidden.offsets[index]} after {anchor}, told in the {view} view)")
    return texts
