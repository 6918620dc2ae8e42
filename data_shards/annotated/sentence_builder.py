"""Builds a sentence from annotations: checks offsets, merges duplicates, counts what it leaves out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.annotated.read_report import (
    ARGUMENT_OF_SEVERAL_TYPES,
    DUPLICATE_ENTITIES,
    DUPLICATE_RELATIONS,
    WITHOUT_ENTITY,
    WITHOUT_WORDS,
    ReadReport,
)
from data_shards.errors import UserError

Span = tuple[int, int]


class SentenceBuilder:
    """A sentence that is being read.

    Args:
        words: of the sentence.
        where: where it stands, for errors.
        report: counts merged duplicates and what is left out.
        document: name of its document.
        number: of the sentence.
    """

    def __init__(self, words: Sequence[str], where: str, report: ReadReport, *, document: str, number: int) -> None:
        self._words = tuple(words)
        self._where, self._report = where, report
        self._document, self._number = document, number
        self._entities: dict[Entity, int] = {}
        self._relations: dict[Relation, None] = {}
        self._types_of_span: dict[Span, list[int]] = {}

    def add_entity(self, word_start: int, word_end: int, type: str) -> int:
        """Add an entity, or find it if it is there already; returns its number among the sentence's entities.

        Raises:
            UserError: the span is empty or reaches beyond the sentence.
        """
        if 0 <= word_end <= word_start <= len(self._words):
            raise UserError(
                f"{self._where}: entity of type {type!r} begins at word {word_start} and ends at {word_end}, which "
                "leaves it empty: ends are exclusive"
            )
        if not 0 <= word_start < word_end <= len(self._words):
            raise UserError(
                f"{self._where}: entity of type {type!r} on words {word_start} up to, not including, {word_end}, but "
                f"the sentence has words 0 to {len(self._words) - 1}: correct the offsets"
            )
        entity = Entity(word_start, word_end, type)
        if entity in self._entities:
            self._report.findings[DUPLICATE_ENTITIES] += 1
            return self._entities[entity]
        number = self._entities[entity] = len(self._entities)
        self._types_of_span.setdefault((word_start, word_end), []).append(number)
        return number

    def add_relation(self, head: int, tail: int, type: str) -> None:
        """Add a relation between two entities, named by what `add_entity` returned.

        Raises:
            UserError: they are one and the same.
        """
        if head == tail:
            entity = list(self._entities)[head]
            text = " ".join(self._words[entity.word_start : entity.word_end])
            raise UserError(
                f"{self._where}: relation {type!r} of {text!r} (words {entity.word_start} up to, not including, "
                f"{entity.word_end}) with itself: correct its arguments or remove it"
            )
        relation = Relation(head, tail, type)
        if relation in self._relations:
            self._report.findings[DUPLICATE_RELATIONS] += 1
        self._relations[relation] = None

    def add_relation_of_spans(self, head: Span, tail: Span, type: str) -> None:
        """Add a relation whose arguments are named by their words; without entities there, it is left out."""
        arguments = [self._types_of_span.get(span, []) for span in (head, tail)]
        if not all(arguments):
            self._report.findings[WITHOUT_ENTITY] += 1
            return
        if any(len(entities) > 1 for entities in arguments):
            self._report.findings[ARGUMENT_OF_SEVERAL_TYPES] += 1
        self.add_relation(arguments[0][0], arguments[1][0], type)

    def check_text(self, name: str, word_start: int, word_end: int, text: str | None) -> None:
        """Hold the text that a file gives of an entity against its words; spaces and case do not count.

        Args:
            name: of the entity, for the error.
            word_start: its first word.
            word_end: one past its last word.
            text: as the file has it; None if it has none.

        Raises:
            UserError: they differ.
        """
        words = " ".join(self._words[word_start:word_end])
        if text is not None and without_spaces(words) != without_spaces(text):
            raise UserError(
                f"{self._where}: {name} says {text!r}, but its words {[word_start, word_end]} are {words!r}: correct "
                "the offset (the end is exclusive) or the text"
            )

    def build(self) -> list[AnnotatedSentence]:
        """The sentence; none if it has no words."""
        if not self._words:
            self._report.findings[WITHOUT_WORDS] += 1
            return []
        return [
            AnnotatedSentence(self._words, tuple(self._entities), tuple(self._relations), self._document, self._number)
        ]


def without_spaces(text: str) -> str:
    """What two texts are compared by: neither spaces nor case count, nor whether letters are composed (é) or not."""
    return unicodedata.normalize("NFD", "".join(text.split()).casefold())
