"""Unified: one sentence an item, with `tokens`, `entities`, `relations`; SpERT's JSON is one way of writing it.

Entities are `{"type", "start", "end"}` or `[start, end, type, …]`, end exclusive; a `text` in the former must be
that of its words. Relations are `{"type", "head", "tail"}` or `[head, tail, type]` with numbers of entities, or
`[head start, head end, tail start, tail end, type]` with words, as in files of CoNLL04.
We write objects; `document` and `number` are our own additions, left out where they say nothing.
"""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.annotated.document import Document
from data_shards.annotated.document_builder import DocumentBuilder
from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import ReadReport
from data_shards.annotated.schema import (
    LIST,
    NUMBERS,
    OBJECT,
    AnyEntity,
    EntityFields,
    Fields,
    Id,
    Index,
    Label,
    RelationFields,
    Text,
    form,
    parse,
)
from data_shards.files import explain_write_errors, written_output

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": partial(gzip.compress, mtime=0), ".bz2": bz2.compress}
_DIGITS = 6  # of scores
_AnyRelation = Annotated[
    Annotated[RelationFields, Tag(OBJECT)]
    | Annotated[tuple[Index, Index, Index, Index, Label], Tag(LIST)]
    | Annotated[tuple[Index, Index, Label], Tag(NUMBERS)],
    Discriminator(lambda value: NUMBERS if form(value) == LIST and len(value) == 3 else form(value)),
]


class _Sentence(Fields):
    tokens: list[Text]
    entities: list[AnyEntity]
    relations: Sequence[_AnyRelation] = ()
    document: Id = ""
    number: Index | None = None


def read(item: Item, index: int, report: ReadReport) -> Document:
    """The sentence of an item.

    Args:
        item: as read from a file.
        index: its number in the file, from 0.
        report: what is found is counted here.

    Raises:
        UserError: a field is missing or wrong, or an offset or number points to nothing.
    """
    fields = parse(item, _Sentence, report)
    number = index if fields.number is None else fields.number
    builder = DocumentBuilder([fields.tokens], item.where, report, numbered=False)
    for index, entity in enumerate(fields.entities):
        if isinstance(entity, EntityFields):
            builder.add_mention(entity.start, entity.end, entity.type)
            builder.check_text(f"entity {index}", entity.start, entity.end, entity.text)
        else:
            builder.add_mention(*entity)
    for relation in fields.relations:
        if isinstance(relation, tuple) and len(relation) == 5:
            head_start, head_end, tail_start, tail_end, type = relation
            builder.add_relation_of_spans((0, head_start, head_end), (0, tail_start, tail_end), type)
            continue
        head, tail, type = (
            (relation.head, relation.tail, relation.type) if isinstance(relation, RelationFields) else relation
        )
        builder.add_relation(head, tail, type)
    return builder.build(name=fields.document, number=number)


def write_unified(sentences: Iterable[AnnotatedSentence], path: Path) -> None:
    """Write sentences as unified JSON lines, compressed for `.gz` and `.bz2`. Reading gives the same sentences."""
    write_file(path, json_lines(sentences))


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, compressed for `.gz` and `.bz2`; its folder is made."""
    with explain_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_output(path) as file:
            file.write(_COMPRESS.get(path.suffix, bytes)(data))


def json_lines(sentences: Iterable[AnnotatedSentence]) -> bytes:
    """Sentences as unified JSON, one a line; document and number, where they say something."""
    lines = []
    for index, sentence in enumerate(sentences):
        fields = sentence_fields(sentence)
        if sentence.document:
            fields["document"] = sentence.document
        if sentence.number != index:
            fields["number"] = sentence.number
        lines.append(json.dumps(fields, ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def sentence_fields(sentence: AnnotatedSentence) -> dict[str, Any]:
    """Words, entities and relations as unified JSON; scores, where there are any, have six digits."""
    return {
        "tokens": list(sentence.words),
        "entities": [
            {"type": one.type, "start": one.word_start, "end": one.word_end} | _score(one) for one in sentence.entities
        ],
        "relations": [
            {"type": one.type, "head": one.head, "tail": one.tail} | _score(one) for one in sentence.relations
        ],
    }


def _score(found: Entity | Relation) -> dict[str, float]:
    return {} if found.score is None else {"score": round(found.score, _DIGITS)}
