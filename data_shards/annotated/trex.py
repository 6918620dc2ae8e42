"""T-REx, and REBEL's files: one text an item, with entities and triples of Wikidata, as JSON lines.

    text, entities [{uri, boundaries: [start, end), surfaceform}], triples [{subject, predicate, object}]

Subject and object are written as entities are. Mentions with the same URI are one entity; without URI ("", "None"),
those with the same surface form. Boundaries in these files often miss their words by some characters; the nearest place
where the text has the surface form is meant.
"""

from __future__ import annotations

import re

from data_shards.annotated.document import Document, Fact, Mention
from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import MOVED, NOT_FOUND, WITH_ITSELF, WITHOUT_ENTITY, ReadReport
from data_shards.annotated.schema import Fields, Id, Index, Label, Text, parse

ENTITY_TYPE = "entity"  # of all: the files know none
_NO_URI = ("", "None")
_WIKIDATA_CODE = re.compile(r"(?:.*/)?([PQ]\d+)")


class _Entity(Fields):
    uri: Id = ""
    boundaries: tuple[Index, Index] | None = None
    surfaceform: Text = ""

    @property
    def identity(self) -> str:
        """The code of an entity of Wikidata, the URI of a date or number; empty if there is none."""
        return "" if self.uri in _NO_URI else _code(self.uri)

    @property
    def key(self) -> tuple[str, str]:
        """What mentions of one entity share."""
        return self.identity, "" if self.identity else self.surfaceform


class _Predicate(_Entity):
    uri: Label


class _Triple(Fields):
    subject: _Entity
    predicate: _Predicate
    object: _Entity


class _Document(Fields):
    text: Text
    entities: list[_Entity]
    triples: list[_Triple]
    title: Text = ""
    docid: Id = ""


def read(item: Item, index: int, report: ReadReport) -> Document:
    """A text, whose facts have the codes of relations as types, and whose names go into the report; see `unified.read`.

    Subjects and objects are mentions too, as are the entities.
    """
    fields = parse(item, _Document, report)
    listed = fields.entities + [argument for triple in fields.triples for argument in (triple.subject, triple.object)]
    numbers: dict[tuple[str, str], int] = {}
    mentions: dict[Mention, None] = {}
    for entity in listed:
        if entity.boundaries is None:  # what a pronoun stands for, or the title
            continue
        place = _locate(fields.text, entity.surfaceform, *entity.boundaries)
        if place is None:
            report.findings[NOT_FOUND] += 1
            continue
        if place != entity.boundaries:
            report.findings[MOVED] += 1
        number = numbers.setdefault(entity.key, len(numbers))
        mentions[Mention(*place, ENTITY_TYPE, number)] = None
    facts = []
    for triple in fields.triples:
        head, tail = numbers.get(triple.subject.key), numbers.get(triple.object.key)
        if head is None or tail is None:
            report.findings[WITHOUT_ENTITY] += 1
        elif head == tail:
            report.findings[WITH_ITSELF] += 1
        else:
            facts.append(Fact(head, tail, _relation(triple.predicate, report)))
    title, identities = fields.title or fields.docid or f"text {index}", tuple(identity for identity, _ in numbers)
    return Document(fields.text, tuple(mentions), tuple(facts), name=title, identities=identities)


def _locate(text: str, surface: str, start: int, end: int) -> tuple[int, int] | None:
    """The characters of an entity; None if the text does not have its words."""
    if not surface:
        return (start, end) if start < end <= len(text) else None
    if text[start:end] == surface:
        return start, end
    before, after = text.rfind(surface, 0, start + len(surface)), text.find(surface, start)
    places = [place for place in (before, after) if place >= 0]
    if not places:
        return None
    nearest = min(places, key=lambda place: abs(place - start))
    return nearest, nearest + len(surface)


def _code(uri: str) -> str:
    found = _WIKIDATA_CODE.fullmatch(uri)
    return found[1] if found else uri


def _relation(predicate: _Predicate, report: ReadReport) -> str:
    code = _code(predicate.uri)
    if predicate.surfaceform and predicate.boundaries is None:  # else it is words of the text
        report.relation_names.setdefault(code, predicate.surfaceform)
    return code
