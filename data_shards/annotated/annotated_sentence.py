"""A sentence with its entities and relations: what every format of annotated data is read into."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Entity:
    """A typed span of words.

    Args:
        word_start: its first word.
        word_end: one past its last word.
        type: its label.
        score: score of a prediction, its probability; makes no difference to what is equal.
    """

    word_start: int
    word_end: int
    type: str
    score: float | None = field(default=None, compare=False)


@dataclass(frozen=True, order=True)
class Relation:
    """A directed, typed relation between two entities of a sentence.

    Args:
        head: number of its first argument among the sentence's entities.
        tail: number of its second argument.
        type: its label.
        score: score of a prediction, its probability, that of its arguments included.
    """

    head: int
    tail: int
    type: str
    score: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class AnnotatedSentence:
    """Words with entities, and the relations between these.

    Args:
        words: as the data give them.
        entities: in the order of the data; they may overlap.
        relations: between entities, by their numbers.
        document: name of the document; empty if the data know none.
        number: number of the sentence in its document, or in the file.
    """

    words: tuple[str, ...]
    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()
    document: str = ""
    number: int = 0
