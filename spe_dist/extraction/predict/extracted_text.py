"""A text with the entities and relations that a model finds in it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_DIGITS = 4  # of scores in JSON


@dataclass(frozen=True)
class ExtractedEntity:
    """An entity of a text.

    Args:
        start: its first character (a Python index: characters are Unicode code points).
        end: one past its last character.
        text: these characters.
        type: one of the model's entity types.
        score: probability that these words are an entity of this type.
        token_start: its first word, if the text was given as words.
        token_end: one past its last word.
    """

    start: int
    end: int
    text: str
    type: str
    score: float
    token_start: int | None = None
    token_end: int | None = None


@dataclass(frozen=True)
class ExtractedRelation:
    """A directed relation between two entities of one sentence.

    Args:
        head: number of its first argument among the text's entities.
        tail: number of its second argument.
        type: one of the model's relation types.
        score: probability of the relation, its direction and both arguments.
    """

    head: int
    tail: int
    type: str
    score: float


@dataclass(frozen=True)
class ExtractedSentence:
    """A sentence of a text; characters and numbers of entities are those of the text.

    Args:
        start: its first character.
        end: one past its last character.
        entities: number → entity, in the order of the text.
        relations: between them.
    """

    start: int
    end: int
    entities: dict[int, ExtractedEntity]
    relations: tuple[ExtractedRelation, ...]


@dataclass(frozen=True)
class Nested:
    """An entity with those that lie in it, to be shown as brackets in brackets.

    Args:
        number: number of the entity.
        entity: itself.
        inside: in the order of the text.
    """

    number: int
    entity: ExtractedEntity
    inside: list[Nested]


def nest(entities: dict[int, ExtractedEntity]) -> tuple[list[Nested], dict[int, ExtractedEntity]]:
    """Entities as a forest of brackets, and those that cross a bracket and can only be listed beside it."""
    roots: list[Nested] = []
    opened: list[Nested] = []
    crossing: dict[int, ExtractedEntity] = {}
    for number, entity in sorted(entities.items(), key=lambda item: (item[1].start, -item[1].end, item[0])):
        while opened and opened[-1].entity.end <= entity.start:
            opened.pop()
        if opened and opened[-1].entity.end < entity.end:
            crossing[number] = entity
            continue
        node = Nested(number, entity, [])
        (opened[-1].inside if opened else roots).append(node)
        opened.append(node)
    return roots, crossing


@dataclass(frozen=True)
class ExtractedText:
    """What a model finds in a text.

    Args:
        text: as given; words joined by spaces if it was given as words.
        entities: in the order of the text; they overlap only where the training data did.
        relations: in the order of their sentences.
        sentences: characters (start, end) of each sentence; no relation leaves one.
        tokens: the words, if it was given as words.
    """

    text: str
    entities: tuple[ExtractedEntity, ...]
    relations: tuple[ExtractedRelation, ...]
    sentences: tuple[tuple[int, int], ...]
    tokens: tuple[str, ...] | None = None

    def by_sentence(self) -> Iterator[ExtractedSentence]:
        """The same, sentence by sentence."""
        starts = [start for start, _ in self.sentences]
        sentences = [bisect_right(starts, entity.start) - 1 for entity in self.entities]
        entities: list[dict[int, ExtractedEntity]] = [{} for _ in starts]
        relations: list[list[ExtractedRelation]] = [[] for _ in starts]
        for number, (entity, sentence) in enumerate(zip(self.entities, sentences, strict=True)):
            entities[sentence][number] = entity
        for relation in self.relations:
            relations[sentences[relation.head]].append(relation)
        for (start, end), inside, between in zip(self.sentences, entities, relations, strict=True):
            yield ExtractedSentence(start, end, inside, tuple(between))

    def as_json(self) -> dict[str, Any]:
        """A JSON object.

        A text has `text`, and entities with `start` and `end` in characters. What was given as words is written as
        annotated data are (docs/annotated_data.md): `tokens`, and `start` and `end` in words; the characters of the
        words joined by spaces are `char_start` and `char_end` there.
        """
        given: dict[str, Any] = {"text": self.text} if self.tokens is None else {"tokens": list(self.tokens)}
        return given | {
            "entities": [_entity_as_json(entity) for entity in self.entities],
            "relations": [
                {"type": r.type, "head": r.head, "tail": r.tail, "score": round(r.score, _DIGITS)}
                for r in self.relations
            ],
        }


def _entity_as_json(entity: ExtractedEntity) -> dict[str, Any]:
    places: dict[str, int | None] = {"start": entity.start, "end": entity.end}
    if entity.token_start is not None:
        places = {
            "start": entity.token_start,
            "end": entity.token_end,
            "char_start": entity.start,
            "char_end": entity.end,
        }
    return {"type": entity.type, **places, "text": entity.text, "score": round(entity.score, _DIGITS)}
