"""A document as ERICA sees it, for a person to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from data_shards.shards.record import Records
from spe_dist.batches.five_spans import word_texts
from spe_dist.documents.marked_facts import describe_marked
from spe_dist.methods.erica.collate import DocumentCollate
from spe_dist.methods.erica.fact_pairs import HEAD, NA, RELATION, SINGLE, TAIL
from spe_dist.methods.erica.marked_collate import MarkedFactCollate


def describe(
    collate: DocumentCollate | MarkedFactCollate, record: Records, step: int, lane: int, piece: Callable[[int], str]
) -> str:
    """One record as a lane of its own would draw it: facts and unrelated pairs, the question, hidden pieces."""
    if isinstance(collate, MarkedFactCollate):
        return describe_marked(collate.marking, record, step, lane, piece)
    related = replace(collate, lane_size=1, related=1).draw(record, step, [lane])
    asked = replace(collate, lane_size=1, related=0).draw(record, step, [lane])
    words = word_texts(record, 0, record.pieces.values, piece)
    names: dict[int, str] = {}
    for (first, last, _), entity in zip(
        record.entities.values.tolist(), record.layers["mention_entities"].values.tolist(), strict=True
    ):
        names.setdefault(entity, " ".join(words[first:last]))
    relation = ["·".join(piece(i) for i in collate.relation_names.row(n)) for n in range(len(collate.relation_names))]
    lines = [f"{len(words)} words, {len(record.pieces.values)} pieces, {len(names)} entities"]
    for row in related.pairs:
        kind = "" if row[RELATION] == NA else " (in one sentence)" if row[SINGLE] else " (across sentences)"
        name = "no relation" if row[RELATION] == NA else relation[row[RELATION]]
        lines.append(f"  {names[row[HEAD]]} - {name} - {names[row[TAIL]]}{kind}")
    questions = asked.questions
    for number, (head, of) in enumerate(zip(questions.heads, questions.relations, strict=True)):
        answers = ", ".join(names[entity] for entity in questions.candidates.row(number))
        lines.append(f"  question: {relation[of]} {names[head]}? candidates, the answer first: {answers}")
    shown = word_texts(record, 0, asked.masked.piece_ids, piece)
    return "\n".join([*lines, f"  masked: {' '.join(shown)}"])
