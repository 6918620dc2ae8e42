"""Characters: one text an item, its entities named by characters, as annotation tools and `spe predict` write it.

    ours      text, entities [{type, start, end}] or [[start, end, type]], relations [{type, head, tail}], by number
    Doccano   text, entities [{id, label, start_offset, end_offset}], relations [{type, from_id, to_id}]
              text, label [[start, end, type]], from projects without relations
    Prodigy   text, spans [{label, start, end}], relations [{label, head_span, child_span}], answer
    Label Studio, JSON-MIN   text, label [{start, end, labels}]

A text is cut into sentences and words by the rules that cut raw text for shards and predictions. An entity has all the
words that it shares a character with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_shards.annotated.document import Document, Fact, Mention
from data_shards.annotated.document_builder import without_spaces
from data_shards.annotated.json_objects import Item
from data_shards.annotated.offset_trial import OffsetTrial
from data_shards.annotated.read_report import NOT_ACCEPTED, SPANS_NOT_ACCEPTED, WITHOUT_ENTITY, ReadReport
from data_shards.annotated.schema import parse
from data_shards.annotated.ways_of_writing import (
    ACCEPTED,
    ListedEntity,
    ListedRelation,
    Prodigy,
    way_of_writing,
)
from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit, TextOffsets


def read(item: Item, index: int, report: ReadReport, *, offsets: OffsetUnit, trial: OffsetTrial) -> Document | None:
    """A text, None if the answer to it was no; see `unified.read`, and `readers` for offsets and trial."""
    fields = parse(item, way_of_writing(item), report)
    if isinstance(fields, Prodigy) and fields.answer != ACCEPTED:
        report.findings[NOT_ACCEPTED] += 1
        return None
    listed, relations = fields.listed(item.where)
    read = ListedText(fields.text, listed, relations, fields.id or f"text {index}", item.where)
    return document_of(read, report, offsets, trial)


class ListedText(NamedTuple):
    """A text with what is listed of it, entities by the names that relations call them; `where` is for errors."""

    text: str
    entities: Sequence[ListedEntity]
    relations: Sequence[ListedRelation]
    name: str
    where: str


def document_of(listed: ListedText, report: ReadReport, offsets: OffsetUnit, trial: OffsetTrial) -> Document:
    """The document of a text; entities of one name are mentions of one entity. See `read` for the rest."""
    numbers: dict[str, int] = {}  # of entities, by their names
    mentions: list[Mention] = []
    places = _locate(listed.entities, listed.text, listed.where, offsets, trial)
    for entity, (start, end) in zip(listed.entities, places, strict=True):
        if entity.accepted:
            mentions.append(Mention(start, end, entity.type, numbers.setdefault(entity.name, len(numbers))))
        else:
            report.findings[SPANS_NOT_ACCEPTED] += 1
    facts = []
    for relation in listed.relations:
        if relation.head == relation.tail:
            raise UserError(
                f"{listed.where}: relation {relation.type!r} of entity {relation.head} with itself: correct or remove "
                "it"
            )
        head, tail = numbers.get(relation.head), numbers.get(relation.tail)
        if head is None or tail is None:
            report.findings[WITHOUT_ENTITY] += 1
        else:
            facts.append(Fact(head, tail, relation.type))
    return Document(listed.text, tuple(mentions), tuple(facts), name=listed.name)


def _locate(
    listed: Sequence[ListedEntity], text: str, where: str, offsets: OffsetUnit, trial: OffsetTrial
) -> list[tuple[int, int]]:
    """The characters of each entity."""
    units, spans = TextOffsets(text, offsets), []
    for number, entity in enumerate(listed):
        try:
            start, end = units.span(entity.start, entity.end)
            _check_text(entity.text, text[start:end])
        except ValueError as error:
            counted = np.array([(one.start, one.end) for one in listed], dtype=np.int64)
            advice = trial.explain(Document(text), counted) or "; correct its offsets"
            raise UserError(f"{where}: entity {number} of type {entity.type!r} {error}{advice}") from error
        spans.append((start, end))
    return spans


def _check_text(said: str | None, own: str) -> None:
    if said is not None and without_spaces(said) != without_spaces(own):
        raise ValueError(f"says {said!r}, but its characters are {own!r} (the end is exclusive)")
