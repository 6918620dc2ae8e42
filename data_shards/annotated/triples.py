"""Triples of strings, as files of NYT and WebNLG for joint extraction have them: one text an item.

    CasRel     text, triple_list [[subject, relation, object]]
    TPLinker   text, relation_list [{subject, predicate, object, subj_char_span, obj_char_span}],
               entity_list [{text, type, char_span}]

A string without offsets is the first whole words of the text that are equal to it, as these programs take it. Entities
of triples have the type "entity".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from data_shards.annotated.document import Document, Fact, Mention
from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import NOT_FOUND, SEVERAL_PLACES, WITH_ITSELF, WITHOUT_ENTITY, ReadReport
from data_shards.annotated.schema import Fields, Id, Index, Label, Text, parse
from data_shards.annotated.trex import ENTITY_TYPE
from data_shards.errors import UserError

_Span = tuple[Index, Index]


class _Triple(Fields):
    subject: Text
    predicate: Label
    object: Text
    subj_char_span: _Span | None = None
    obj_char_span: _Span | None = None


class _Entity(Fields):
    text: Text
    type: Label = ENTITY_TYPE
    char_span: _Span | None = None


class _Text(Fields):
    text: Text
    id: Id = ""
    triple_list: Sequence[tuple[Text, Label, Text]] = ()
    relation_list: Sequence[_Triple] = ()
    entity_list: Sequence[_Entity] = ()


def read(item: Item, index: int, report: ReadReport) -> Document:
    """The text of an item; see `unified.read`."""
    fields = parse(item, _Text, report)
    places = _Places(fields.text, item.where, report)
    numbers: dict[tuple[int, int], int] = {}
    mentions: list[Mention] = []

    def number_of(text: str, span: _Span | None, type: str | None = None) -> int | None:
        place = places.find(text, span)
        if place is None:
            return None
        if place not in numbers or type is not None:
            numbers.setdefault(place, len(numbers))
            mentions.append(Mention(*place, type or ENTITY_TYPE, numbers[place]))
        return numbers[place]

    for entity in fields.entity_list:
        number_of(entity.text, entity.char_span, entity.type)
    facts = []
    listed = [(s, None, p, o, None) for s, p, o in fields.triple_list] + [
        (one.subject, one.subj_char_span, one.predicate, one.object, one.obj_char_span) for one in fields.relation_list
    ]
    for subject, subject_span, predicate, object, object_span in listed:
        head, tail = number_of(subject, subject_span), number_of(object, object_span)
        if head is None or tail is None:
            report.findings[WITHOUT_ENTITY] += 1
        elif head == tail:
            report.findings[WITH_ITSELF] += 1
        else:
            facts.append(Fact(head, tail, predicate))
    return Document(fields.text, tuple(mentions), tuple(facts), name=fields.id or f"text {index}")


class _Places:
    """Where a text has the strings of its triples."""

    def __init__(self, text: str, where: str, report: ReadReport) -> None:
        self._text, self._where, self._report = text, where, report
        self._known: dict[str, tuple[int, int] | None] = {}

    def find(self, string: str, span: tuple[int, int] | None) -> tuple[int, int] | None:
        """The characters of a string; None, counted once, if the text does not have it."""
        if span is not None:
            if self._text[slice(*span)] != string or not string:
                raise UserError(
                    f"{self._where}: {string!r} is said to be characters {list(span)}, which are "
                    f"{self._text[slice(*span)]!r}: correct the span (its end is exclusive)"
                )
            return span
        if string not in self._known:
            self._known[string] = self._first(string)
        return self._known[string]

    def _first(self, string: str) -> tuple[int, int] | None:
        plain = re.escape(string)
        found = [match.span() for match in re.finditer(rf"(?<!\w){plain}(?!\w)", self._text)]
        if not found:  # nothing stands between the words of some scripts
            found = [match.span() for match in re.finditer(plain, self._text)]
        if not string.strip() or not found:
            self._report.findings[NOT_FOUND] += 1
            return None
        if len(found) > 1:
            self._report.findings[SEVERAL_PLACES] += 1
        return found[0]


def item_of(document: Document, relations: Sequence[tuple[int, int, str]]) -> dict[str, Any]:
    """A document as CasRel's item.

    Args:
        document: any.
        relations: numbers of head and tail among its mentions, and type.
    """
    strings = [document.text[start:end] for start, end in document.characters()]
    named = {"id": document.name} if document.name else {}
    return named | {
        "text": document.text,
        "triple_list": [[strings[head], type, strings[tail]] for head, tail, type in relations],
    }
