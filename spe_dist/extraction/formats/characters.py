"""Characters: one text an item, its entities named by characters, as annotation tools and `spe predict` write it.

    ours      text, entities [{type, start, end}] or [[start, end, type]], relations [{type, head, tail}], by number
    Doccano   text, entities [{id, label, start_offset, end_offset}], relations [{type, from_id, to_id}]
              text, label [[start, end, type]], from projects without relations
    Prodigy   text, spans [{label, start, end}], relations [{label, head_span, child_span}], answer

A text is cut into sentences and words by the rules that cut raw text for shards and predictions. An entity has all the
words that it shares a character with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from data_shards.document_sentences import split_documents
from data_shards.entity_words import words_of_characters
from data_shards.errors import UserError
from data_shards.gold_entities import Document
from data_shards.word_rules import WordRules
from spe_dist.extraction.annotated_sentence import AnnotatedSentence
from spe_dist.extraction.formats.items import Item
from spe_dist.extraction.formats.read_report import (
    ACROSS_SENTENCES,
    ENTITIES_ACROSS_SENTENCES,
    ENTITIES_WITHOUT_WORDS,
    NOT_ACCEPTED,
    SHARED_MENTION,
    WIDENED,
    WITHOUT_ENTITY,
    ReadReport,
)
from spe_dist.extraction.formats.schema import (
    AnyEntity,
    EntityFields,
    EntityList,
    Fields,
    Id,
    Index,
    Label,
    RelationFields,
    Text,
    parse,
)
from spe_dist.extraction.formats.sentence_builder import SentenceBuilder, without_spaces

_ACCEPTED = "accept"


class _Characters(NamedTuple):
    """An entity as it is listed, and what relations may call it by."""

    start: int
    end: int
    type: str
    name: object
    text: str | None = None


class _Pair(NamedTuple):
    """A relation as it is listed; head and tail are names of entities."""

    head: object
    tail: object
    type: str


class _Item(Fields):
    text: Text
    id: Id = ""


class _Ours(_Item):
    entities: list[AnyEntity]
    relations: Sequence[RelationFields] = ()

    def listed(self, where: str) -> tuple[list[_Characters], list[_Pair]]:
        entities = []
        for number, entity in enumerate(self.entities):
            if isinstance(entity, EntityFields):
                entities.append(_Characters(entity.start, entity.end, entity.type, number, entity.text))
            else:
                entities.append(_Characters(*entity, number))
        for relation in self.relations:
            if max(relation.head, relation.tail) >= len(entities):
                raise UserError(
                    f"{where}: relation {relation.type!r} from entity {relation.head} to {relation.tail}, but the text "
                    f"has {len(entities)} entities, counted from 0: mend the numbers"
                )
        return entities, [_Pair(relation.head, relation.tail, relation.type) for relation in self.relations]


class _DoccanoEntity(Fields):
    id: Id
    label: Label
    start_offset: Index
    end_offset: Index


class _DoccanoRelation(Fields):
    type: Label
    from_id: Id
    to_id: Id


class _Doccano(_Item):
    entities: list[_DoccanoEntity]
    relations: Sequence[_DoccanoRelation] = ()

    def listed(self, where: str) -> tuple[list[_Characters], list[_Pair]]:
        entities = [_Characters(one.start_offset, one.end_offset, one.label, one.id) for one in self.entities]
        return entities, [_Pair(one.from_id, one.to_id, one.type) for one in self.relations]


class _DoccanoLabels(_Item):
    label: list[EntityList]

    def listed(self, where: str) -> tuple[list[_Characters], list[_Pair]]:
        return [_Characters(*entity, number) for number, entity in enumerate(self.label)], []


class _ProdigySpan(Fields):
    label: Label
    start: Index
    end: Index


class _ProdigyArgument(Fields):
    start: Index
    end: Index
    label: Label | None = None
    """None where an arc ends on a word that is in no span."""

    @property
    def name(self) -> tuple[int, int, str | None]:
        return self.start, self.end, self.label


class _ProdigyRelation(Fields):
    label: Label
    head_span: _ProdigyArgument
    child_span: _ProdigyArgument


class _Prodigy(_Item):
    spans: list[_ProdigySpan]
    relations: Sequence[_ProdigyRelation] = ()
    answer: Text = _ACCEPTED

    def listed(self, where: str) -> tuple[list[_Characters], list[_Pair]]:
        entities = [_Characters(one.start, one.end, one.label, (one.start, one.end, one.label)) for one in self.spans]
        return entities, [_Pair(one.head_span.name, one.child_span.name, one.label) for one in self.relations]


class _Place(NamedTuple):
    """Where an entity is: sentence, and number among the sentence's entities."""

    sentence: int
    number: int


def read(item: Item, index: int, report: ReadReport, *, language: str) -> list[AnnotatedSentence]:
    """The sentences of a text; see `unified.read`.

    Args:
        item: as read from a file.
        index: its number in the file, from 0.
        report: what is found is counted here.
        language: whose rules cut the text (a spaCy language code).
    """
    fields = parse(item, _way_of_writing(item), report)
    if isinstance(fields, _Prodigy) and fields.answer != _ACCEPTED:
        report.findings[NOT_ACCEPTED] += 1
        return []
    listed, pairs = fields.listed(item.where)
    text = _CutText.of(fields.text, language)
    document = str(fields.id) or f"text {index}"
    builders = [
        SentenceBuilder(words, f"{item.where}, sentence {number}", report, document=document, number=number)
        for number, words in enumerate(text.sentences())
    ]
    places = _add_entities(listed, text, builders, item.where, report)
    for pair in pairs:
        _add_relation(pair, places, builders, item.where, report)
    return [sentence for builder in builders for sentence in builder.build()]


def _way_of_writing(item: Item) -> type[_Ours | _Doccano | _DoccanoLabels | _Prodigy]:
    if "entities" not in item.value:  # which `spe predict` adds to what it keeps of an input
        return _Prodigy if "spans" in item.value else _DoccanoLabels if "label" in item.value else _Ours
    entities = item.value["entities"]
    listed = entities if isinstance(entities, list) else []
    return _Doccano if any(isinstance(one, dict) and "start_offset" in one for one in listed) else _Ours


@dataclass(frozen=True)
class _CutText:
    text: str
    words: np.ndarray  # [W, 2] characters of each word, half-open
    word_offsets: np.ndarray  # [S + 1]

    @classmethod
    def of(cls, text: str, language: str) -> _CutText:
        return cls(text, *split_documents([Document(text)], language).locate_words(_rules(language)))

    def sentences(self) -> Iterator[list[str]]:
        for first, last in zip(self.word_offsets[:-1], self.word_offsets[1:], strict=True):
            yield [self.text[start:end] for start, end in self.words[first:last].tolist()]


@lru_cache(maxsize=1)
def _rules(language: str) -> WordRules:
    return WordRules(language)


def _add_entities(
    listed: Sequence[_Characters], text: _CutText, builders: Sequence[SentenceBuilder], where: str, report: ReadReport
) -> dict[object, _Place | None]:
    """Add what has words of one sentence; the place of each entity by its name, None if it has none."""
    places: dict[object, _Place | None] = {}
    for number, entity in enumerate(listed):
        _check(entity, number, text.text, where)
        (first,), (last,) = words_of_characters(text.words, np.array([[entity.start, entity.end]]))
        places[entity.name] = None
        sentence = int(np.searchsorted(text.word_offsets, first, side="right")) - 1
        if first == last:
            report.findings[ENTITIES_WITHOUT_WORDS] += 1
        elif last > text.word_offsets[sentence + 1]:
            report.findings[ENTITIES_ACROSS_SENTENCES] += 1
        else:
            if text.words[first, 0] < entity.start or text.words[last - 1, 1] > entity.end:
                report.findings[WIDENED] += 1
            start = text.word_offsets[sentence]
            found = builders[sentence].add_entity(int(first - start), int(last - start), entity.type)
            places[entity.name] = _Place(sentence, found)
    return places


def _check(entity: _Characters, number: int, text: str, where: str) -> None:
    if not entity.start < entity.end <= len(text):
        raise UserError(
            f"{where}: entity {number} of type {entity.type!r} on characters {entity.start} up to, not including, "
            f"{entity.end}, but the text has {len(text)}: mend the offsets"
        )
    own = text[entity.start : entity.end]
    if entity.text is not None and without_spaces(entity.text) != without_spaces(own):
        raise UserError(
            f"{where}: entity {number} says {entity.text!r}, but its characters {[entity.start, entity.end]} are "
            f"{own!r}: mend the offset (characters are Unicode code points, the end is exclusive) or the text"
        )


def _add_relation(
    pair: _Pair,
    places: dict[object, _Place | None],
    builders: Sequence[SentenceBuilder],
    where: str,
    report: ReadReport,
) -> None:
    if pair.head == pair.tail:
        raise UserError(f"{where}: relation {pair.type!r} of entity {pair.head} with itself: mend or remove it")
    head, tail = places.get(pair.head), places.get(pair.tail)
    if head is None or tail is None:
        report.findings[WITHOUT_ENTITY] += 1
    elif head.sentence != tail.sentence:
        report.findings[ACROSS_SENTENCES] += 1
    elif head == tail:  # widened to the same words, or listed twice
        report.findings[SHARED_MENTION] += 1
    else:
        builders[head.sentence].add_relation(head.number, tail.number, pair.type)
