"""Drawn sentences in words: what the model sees, for a person to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from data_shards.ragged import IntArray
from data_shards.record import Records
from spe_dist.methods.enpar.collate import DrawnEntityPairs
from spe_dist.methods.enpar.rearrangements import NUM_CLASSES, PERTURBATIONS
from spe_dist.methods.spe.collate import DrawnSentences
from spe_dist.methods.spe.permutations import CLASSES

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
    words = _words(drawn.records, row, ids, piece)
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


def describe_entity_pair(drawn: DrawnEntityPairs, piece: Callable[[int], str]) -> str:
    """One sentence as ENPAR sees it: the pair, the perturbed, permuted and masked copies; the pair in brackets.

    Args:
        drawn: one sentence with what was drawn for it.
        piece: the text of a piece id.
    """
    words, spans = _words(drawn.records, 0, drawn.records.pieces.values, piece), drawn.word_boundaries[0]
    lines = [f"{len(words)} words, {len(drawn.records.pieces.values)} pieces"]
    lines += [
        f"  {name:12} {' '.join(words[a:b]) or '(empty)'}"
        for name, a, b in zip(SPAN_NAMES, spans[:-1], spans[1:], strict=True)
    ]
    for copies, texts, names in (
        (drawn.perturbed, drawn.perturbed_records, PERTURBATIONS),
        (drawn.permuted, drawn.permuted_records, [f"class {number}" for number in range(NUM_CLASSES)]),
    ):
        for copy, kind in enumerate(copies.kinds):
            of_copy = _words(texts, copy, texts.pieces.row(copy), piece)
            lines.append(f"  {names[kind]:12} {_with_pair(of_copy, copies.word_boundaries[copy])}")
    if drawn.masked is not None:
        lines.append(f"  {'masked':12} {' '.join(_words(drawn.records, 0, drawn.masked.piece_ids, piece))}")
    return "\n".join(lines)


def _words(records: Records, row: int, ids: IntArray, piece: Callable[[int], str]) -> list[str]:
    bounds = np.append(records.word_starts.row(row).astype(int), len(ids))
    return ["·".join(piece(i) for i in ids[a:b]) for a, b in pairwise(bounds)]


def _with_pair(words: Sequence[str], word_boundaries: IntArray) -> str:
    _, a, b, c, d, _ = word_boundaries
    parts = (words[:a], [f"[{' '.join(words[a:b])}]"], words[b:c], [f"[{' '.join(words[c:d])}]"], words[d:])
    return " ".join(" ".join(part) for part in parts if part)


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
