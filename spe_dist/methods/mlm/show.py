"""A record as masked language modelling sees it, for a person to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from data_shards.shards.record import Records
from spe_dist.batches.five_spans import word_texts
from spe_dist.methods.mlm.collate import MaskedCollate


def describe(collate: MaskedCollate, record: Records, step: int, lane: int, piece: Callable[[int], str]) -> str:
    """One record as a lane of its own would draw it, and the pieces to predict; those of a span together."""
    drawn = replace(collate, lane_size=1).draw(record, step, [lane])
    pieces, ids = drawn.masked.pieces.tolist(), record.pieces.values
    words = len(record.first_pieces)
    lines = [f"{words} words, {len(ids)} pieces", f"  {' '.join(word_texts(record, 0, drawn.masked.piece_ids, piece))}"]
    if drawn.spans is None:
        return "\n".join([*lines, f"  to predict: {', '.join(piece(ids[place]) for place in pieces)}"])
    for start, end, inside in zip(
        drawn.spans.starts, drawn.spans.ends, drawn.spans.with_boundaries(record), strict=True
    ):
        text = " ".join(piece(of) for of in ids[start:end])
        sides = f" between {piece(ids[start - 1])} and {piece(ids[end])}" if inside else ""
        lines.append(f"  span of {end - start} pieces{sides}: {text}")
    return "\n".join(lines)
