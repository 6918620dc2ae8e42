"""A gold or predicted sentence as a line of a file.

`{"tokens": […], "entities": [{"type", "start", "end"}, …], "relations": [{"type", "head", "tail"}, …]}`; `end` is one
past the last token, `head` and `tail` are numbers of entities, and what is predicted has a `score`. Further fields are
ignored.
"""

from __future__ import annotations

from typing import Any

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation


def sentence_from_json(document: dict[str, Any], number: int) -> AnnotatedSentence:
    """A sentence of such an object.

    Args:
        document: the object.
        number: number of the line, from 0.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    words = tuple(map(_text, document["tokens"]))
    entities = tuple(
        Entity(_number(entity["start"]), _number(entity["end"]), _text(entity["type"]), _score(entity))
        for entity in document["entities"]
    )
    relations = tuple(
        Relation(_number(relation["head"]), _number(relation["tail"]), _text(relation["type"]), _score(relation))
        for relation in document["relations"]
    )
    for entity in entities:
        if not 0 <= entity.word_start < entity.word_end <= len(words):
            raise ValueError(f"an entity from {entity.word_start} to {entity.word_end} in {len(words)} tokens")
    for relation in relations:
        if not (0 <= relation.head < len(entities) and 0 <= relation.tail < len(entities)):
            raise ValueError(f"a relation of entities {relation.head} and {relation.tail}; there are {len(entities)}")
    return AnnotatedSentence(words, entities, relations, number=number)


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _score(found: dict[str, Any]) -> float | None:
    score = found.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise ValueError(f"score {score!r} is not a number")
    return score


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")
    return value
