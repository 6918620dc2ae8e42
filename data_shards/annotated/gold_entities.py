"""Documents that come with their entities: JSON objects that list them, and words with tags.

    {"text": "Ada lives in London.", "entities": [{"start": 0, "end": 3, "type": "Person"}]}              characters
    {"tokens": ["Ada", "lives", "in", "London"], "entities": [{"start": 3, "end": 4, "type": "Place"}]}   words

Ends are exclusive; an entity may also be a list `[start, end, type, …]`. An object with `tokens` is one sentence: these
words with spaces between them. So given words, like any text, are cut by the one set of rules that cuts all text
(`word_rules`), and a given word that the rules cut further still lies wholly inside or outside an entity.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from data_shards.annotated.bio import entities_of_tags, parse_sentence
from data_shards.json_lines import parse_object, text_of_object
from data_shards.offset_units import OffsetUnit, TextOffsets
from data_shards.ragged import offsets_from_lengths

_Span = Callable[[int, int], tuple[int, int]]  # start and end as listed → characters or words; raises a ValueError


@dataclass(frozen=True)
class GoldEntity:
    """Characters [start, end) of a document, and what they name."""

    start: int
    end: int
    type: str


@dataclass(frozen=True)
class Document:
    """A text and the entities that are known of it; `is_sentence` if it must not be split."""

    text: str
    entities: tuple[GoldEntity, ...] = ()
    is_sentence: bool = False


def document_of_json(line: str, text_field: str, offsets: OffsetUnit = "characters") -> Document:
    """The document of a line of JSON.

    Args:
        line: of the file.
        text_field: that holds the text, if there are no `tokens`.
        offsets: what the offsets of entities in a text count.

    Raises:
        ValueError: it has no text, no entities, or one that is none.
    """
    fields = parse_object(line)
    if "entities" not in fields:
        raise ValueError("no field 'entities' (spe data convert makes such lines of what annotation tools write)")
    words = fields.get("tokens")
    if words is None:
        text = text_of_object(fields, text_field)
        return Document(text, tuple(_entities(fields["entities"], TextOffsets(text, offsets).span)))
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("field 'tokens' is not a list of strings")
    "".join(words).encode()  # half a surrogate pair can be written in JSON, but is not text
    return _document_of_words(words, _entities(fields["entities"], partial(_span_of_words, len(words))))


def document_of_tags(line: str) -> Document:
    """The document of a sentence that `bio` has read.

    Raises:
        LineError: a word has no tag, or one that is none.
    """
    rows = parse_sentence(line)
    entities = [GoldEntity(*entity) for entity in entities_of_tags(rows)]
    return _document_of_words([word for _, word, _ in rows], entities)


def _document_of_words(words: Sequence[str], entities: Sequence[GoldEntity]) -> Document:
    starts = offsets_from_lengths(np.array([len(word) + 1 for word in words], dtype=np.int64)).tolist()
    characters = (GoldEntity(starts[e.start], starts[e.end] - 1, e.type) for e in entities)
    return Document(" ".join(words), tuple(characters), is_sentence=True)


def _span_of_words(count: int, start: int, end: int) -> tuple[int, int]:
    if not 0 <= start < end <= count:
        raise ValueError(f"is on words {start} up to, not including, {end}, but there are {count}")
    return start, end


def _entities(listed: Any, span: _Span) -> list[GoldEntity]:
    if not isinstance(listed, list):
        raise ValueError("field 'entities' is not a list: write [] where there are none")
    return [_entity(entity, number, span) for number, entity in enumerate(listed)]


def _entity(entity: Any, number: int, span: _Span) -> GoldEntity:
    if isinstance(entity, dict):
        parts = [entity.get(name) for name in ("start", "end", "type")]
    else:
        parts = entity[:3] if isinstance(entity, list) else []
    match parts:
        case [int(start), int(end), str(type)] if not isinstance(start, bool) and not isinstance(end, bool):
            try:
                return GoldEntity(*span(start, end), checked_type(type))
            except ValueError as error:
                raise ValueError(f"entity {number} {error}") from error
    raise ValueError(f"entity {number} is not {{start, end, type}} or [start, end, type]")


@lru_cache(maxsize=4096)
def checked_type(type: str) -> str:
    """The name of a type, as it is.

    Raises:
        ValueError: it is blank, or has a character that is no text; says so as a part of a sentence.
    """
    if any("\ud800" <= c <= "\udfff" for c in type):
        raise ValueError("has half of a surrogate pair in its type, which is no text")
    if not type.strip():
        raise ValueError(f"has the type {type!r}: give it a name")
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in type):
        raise ValueError(f"has the type {type!r}, with a control character: remove that")
    return type
