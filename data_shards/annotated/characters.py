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

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.gold_entities import Document
from data_shards.annotated.items import Item
from data_shards.annotated.read_report import (
    ACROSS_SENTENCES,
    ENTITIES_ACROSS_SENTENCES,
    ENTITIES_WITHOUT_WORDS,
    NOT_ACCEPTED,
    SHARED_MENTION,
    SPANS_NOT_ACCEPTED,
    TEXTS_WITHOUT_WORDS,
    WIDENED,
    WITHOUT_ENTITY,
    ReadReport,
)
from data_shards.annotated.schema import parse
from data_shards.annotated.sentence_builder import SentenceBuilder, without_spaces
from data_shards.annotated.ways_of_writing import (
    ACCEPTED,
    ListedEntity,
    ListedRelation,
    Prodigy,
    way_of_writing,
)
from data_shards.document_sentences import split_documents
from data_shards.entity_words import words_of_characters
from data_shards.errors import UserError
from data_shards.offset_trial import OffsetTrial
from data_shards.offset_units import OffsetUnit, TextOffsets
from data_shards.ragged import IntArray
from data_shards.word_rules import WordRules


class _Place(NamedTuple):
    """Where an entity is: sentence, and number among the sentence's entities."""

    sentence: int
    number: int


def read(
    item: Item, index: int, report: ReadReport, *, language: str, offsets: OffsetUnit, trial: OffsetTrial
) -> list[AnnotatedSentence]:
    """The sentences of a text; see `unified.read`.

    Args:
        item: as read from a file.
        index: its number in the file, from 0.
        report: what is found is counted here.
        language: whose rules cut the text (a spaCy language code).
        offsets: what the offsets of entities count.
        trial: looks whether they do.
    """
    fields = parse(item, way_of_writing(item), report)
    if isinstance(fields, Prodigy) and fields.answer != ACCEPTED:
        report.findings[NOT_ACCEPTED] += 1
        return []
    listed, relations = fields.listed(item.where)
    text = _CutText.of(fields.text, language)
    if not len(text.words):
        report.findings[TEXTS_WITHOUT_WORDS] += 1
    spans = _locate(listed, text, item.where, offsets, trial)
    trial.add(text.text, text.words, spans[[entity.accepted for entity in listed]], report.place(item.where))
    document = fields.id or f"text {index}"
    builders = [
        SentenceBuilder(words, f"{item.where}, sentence {number}", report, document=document, number=number)
        for number, words in enumerate(text.sentences())
    ]
    places = _add_entities(listed, spans, text, builders, report)
    for relation in relations:
        _add_relation(relation, places, builders, item.where, report)
    return [sentence for builder in builders for sentence in builder.build()]


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


def _locate(
    listed: Sequence[ListedEntity], text: _CutText, where: str, offsets: OffsetUnit, trial: OffsetTrial
) -> IntArray:
    """The characters of each entity, [E, 2]."""
    units, spans = TextOffsets(text.text, offsets), []
    for number, entity in enumerate(listed):
        try:
            start, end = units.span(entity.start, entity.end)
            _check_text(entity.text, text.text[start:end])
        except ValueError as error:
            counted = np.array([(one.start, one.end) for one in listed], dtype=np.int64)
            advice = trial.explain(text.text, text.words, counted) or "; correct its offsets"
            raise UserError(f"{where}: entity {number} of type {entity.type!r} {error}{advice}") from error
        spans.append((start, end))
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _check_text(said: str | None, own: str) -> None:
    if said is not None and without_spaces(said) != without_spaces(own):
        raise ValueError(f"says {said!r}, but its characters are {own!r} (the end is exclusive)")


def _add_entities(
    listed: Sequence[ListedEntity],
    spans: IntArray,
    text: _CutText,
    builders: Sequence[SentenceBuilder],
    report: ReadReport,
) -> dict[str, _Place | None]:
    """Add what has words of one sentence; the place of each entity by its name, None if it has none."""
    places: dict[str, _Place | None] = {}
    for entity, (begin, end), first, last in zip(
        listed, spans.tolist(), *words_of_characters(text.words, spans), strict=True
    ):
        places.setdefault(entity.name, None)
        sentence = int(np.searchsorted(text.word_offsets, first, side="right")) - 1
        if not entity.accepted:
            report.findings[SPANS_NOT_ACCEPTED] += 1
        elif first == last:
            report.findings[ENTITIES_WITHOUT_WORDS] += 1
        elif last > text.word_offsets[sentence + 1]:
            report.findings[ENTITIES_ACROSS_SENTENCES] += 1
        else:
            if text.words[first, 0] < begin or text.words[last - 1, 1] > end:
                report.findings[WIDENED] += 1
            start = text.word_offsets[sentence]
            found = builders[sentence].add_entity(int(first - start), int(last - start), entity.type)
            places[entity.name] = _Place(sentence, found)
    return places


def _add_relation(
    relation: ListedRelation,
    places: dict[str, _Place | None],
    builders: Sequence[SentenceBuilder],
    where: str,
    report: ReadReport,
) -> None:
    if relation.head == relation.tail:
        raise UserError(
            f"{where}: relation {relation.type!r} of entity {relation.head} with itself: correct or remove it"
        )
    head, tail = places.get(relation.head), places.get(relation.tail)
    if head is None or tail is None:
        report.findings[WITHOUT_ENTITY] += 1
    elif head.sentence != tail.sentence:
        report.findings[ACROSS_SENTENCES] += 1
    elif head == tail:  # widened to the same words, or listed twice
        report.findings[SHARED_MENTION] += 1
    else:
        builders[head.sentence].add_relation(head.number, tail.number, relation.type)
