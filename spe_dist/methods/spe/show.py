"""A sentence as SPE sees it, for a person to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from data_shards.shards.record import Records
from spe_dist.batches.five_spans import SPAN_NAMES, span_lines, word_texts
from spe_dist.methods.spe.collate import WHOLE, DrawnSentences, SpanPairCollate
from spe_dist.methods.spe.permutations import CLASSES, PermutedSpans

_UNITS = ("first word", "words between", "last word")


def describe(collate: SpanPairCollate, record: Records, step: int, lane: int, piece: Callable[[int], str]) -> str:
    """One record as a lane of its own would draw it: five spans, permutations, hidden pieces and sequences."""
    drawn = replace(collate, lane_size=1).draw(record, step, [lane])
    ids = drawn.records.pieces.values
    words = word_texts(drawn.records, 0, ids, piece)
    lines = [f"{len(words)} words, {len(ids)} pieces"]
    lines += span_lines(words, drawn.word_boundaries[0], width=8)
    lines += [f"  permuted {text}" for text in _permutations(drawn.permuted)]
    lines += [f"  hidden   {text}" for text in _hidden(drawn, piece)]
    return "\n".join([*lines, *(f"  {name:8} {' '.join(map(piece, one.ids))}" for name, one in drawn.shown.items())])


def _permutations(permuted: PermutedSpans) -> Iterator[str]:
    for span, number in zip(permuted.spans, permuted.classes, strict=True):
        order = ", ".join(_UNITS[unit] for unit in CLASSES[number])
        yield f"{SPAN_NAMES[span]}: class {number} ({order})"


def _hidden(drawn: DrawnSentences, piece: Callable[[int], str]) -> Iterator[str]:
    hidden, values = drawn.hidden, drawn.records.pieces.values
    for place, anchor, offset in zip(hidden.pieces, hidden.anchors, hidden.offsets, strict=True):
        view = "pair view" if drawn.in_pair[place] else "context view"
        read = "whole sentence" if WHOLE in drawn.shown else view
        yield f"{piece(values[place])} (place {offset} after {piece(values[anchor])}, predicted in the {read})"
