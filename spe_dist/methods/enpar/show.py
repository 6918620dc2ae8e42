"""A sentence as ENPAR sees it, for a person to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from data_shards.ragged import IntArray
from data_shards.shards.record import Records
from spe_dist.batches.five_spans import span_lines, word_texts
from spe_dist.methods.enpar.collate import EntityPairCollate
from spe_dist.methods.enpar.rearrangements import NUM_CLASSES, PERTURBATIONS

_WIDTH = 12


def describe(collate: EntityPairCollate, record: Records, step: int, lane: int, piece: Callable[[int], str]) -> str:
    """One record as a lane of its own would draw it.

    Its five spans, then its perturbed, permuted and masked copies with the pair in brackets.
    """
    drawn = replace(collate, lane_size=1).draw(record, step, [lane])
    records = drawn.records
    words = word_texts(records, 0, records.pieces.values, piece)
    lines = [f"{len(words)} words, {len(records.pieces.values)} pieces"]
    lines += span_lines(words, drawn.word_boundaries[0], width=_WIDTH)
    for copies, texts, names in (
        (drawn.perturbed, drawn.perturbed_records, PERTURBATIONS),
        (drawn.permuted, drawn.permuted_records, [f"class {number}" for number in range(NUM_CLASSES)]),
    ):
        for copy, kind in enumerate(copies.kinds):
            of_copy = word_texts(texts, copy, texts.pieces.row(copy), piece)
            lines.append(f"  {names[kind]:{_WIDTH}} {_with_pair(of_copy, copies.word_boundaries[copy])}")
    if drawn.masked is not None:
        lines.append(f"  {'masked':{_WIDTH}} {' '.join(word_texts(records, 0, drawn.masked.piece_ids, piece))}")
    return "\n".join(lines)


def _with_pair(words: Sequence[str], word_boundaries: IntArray) -> str:
    _, a, b, c, d, _ = word_boundaries
    parts = (words[:a], [f"[{' '.join(words[a:b])}]"], words[b:c], [f"[{' '.join(words[c:d])}]"], words[d:])
    return " ".join(" ".join(part) for part in parts if part)
