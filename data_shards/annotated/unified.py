"""Unified: one sentence an item, with `tokens`, `entities`, `relations`; SpERT's JSON is one way of writing it.

Entities are `{"type", "start", "end"}` or `[start, end, type]`, end exclusive; a `text` in the former must be
that of its words. Relations are `{"type", "head", "tail"}` with numbers of entities, or `[head start, head end,
tail start, tail end, type]` with words, as in files of CoNLL04.
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

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.items import Item
from data_shards.annotated.read_report import ReadReport
from data_shards.annotated.schema import (
    LIST,
    OBJECT,
    AnyEntity,
    EntityFields,
    EntityList,
    Fields,
    Id,
    Index,
    Label,
    RelationFields,
    Text,
    form,
    parse,
)
from data_shards.annotated.sentence_builder import SentenceBuilder
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": partial(gzip.compress, mtime=0), ".bz2": bz2.compress}
_ListedRelation = tuple[Index, Index, Index, Index, Label]
_AnyRelation = Annotated[
    Annotated[RelationFields, Tag(OBJECT)] | Annotated[_ListedRelation, Tag(LIST)], Discriminator(form)
]


class _Sentence(Fields):
    tokens: list[Text]
    entities: list[AnyEntity]
    relations: Sequence[_AnyRelation] = ()
    document: Id = ""
    number: Index | None = None


def read(item: Item, index: int, report: ReadReport) -> list[AnnotatedSentence]:
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
    builder = SentenceBuilder(fields.tokens, item.where, report, document=fields.document, number=number)
    numbers = [_add_entity(entity, index, builder) for index, entity in enumerate(fields.entities)]
    for relation in fields.relations:
        if isinstance(relation, RelationFields):
            _check_arguments(relation, len(numbers), item.where)
            builder.add_relation(numbers[relation.head], numbers[relation.tail], relation.type)
        else:
            head_start, head_end, tail_start, tail_end, type = relation
            builder.add_relation_of_spans((head_start, head_end), (tail_start, tail_end), type)
    return builder.build()


def _add_entity(entity: EntityFields | EntityList, index: int, builder: SentenceBuilder) -> int:
    if not isinstance(entity, EntityFields):
        return builder.add_entity(*entity)
    number = builder.add_entity(entity.start, entity.end, entity.type)
    builder.check_text(f"entity {index}", entity.start, entity.end, entity.text)
    return number


def write_unified(sentences: Iterable[AnnotatedSentence], path: Path) -> None:
    """Write sentences as unified JSON lines, compressed for `.gz` and `.bz2`. Reading gives the same sentences.

    Raises:
        UserError: the file cannot be written.
    """
    lines = [json.dumps(_to_json(sentence, index), ensure_ascii=False) for index, sentence in enumerate(sentences)]
    data = "".join(line + "\n" for line in lines).encode()
    with explain_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _COMPRESS.get(path.suffix, bytes)(data))


def _to_json(sentence: AnnotatedSentence, index: int) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "tokens": list(sentence.words),
        "entities": [
            {"type": entity.type, "start": entity.word_start, "end": entity.word_end} for entity in sentence.entities
        ],
        "relations": [
            {"type": relation.type, "head": relation.head, "tail": relation.tail} for relation in sentence.relations
        ],
    }
    if sentence.document:
        fields["document"] = sentence.document
    if sentence.number != index:
        fields["number"] = sentence.number
    return fields


def _check_arguments(relation: RelationFields, num_entities: int, where: str) -> None:
    if max(relation.head, relation.tail) >= num_entities:
        raise UserError(
            f"{where}: relation {relation.type!r} from entity {relation.head} to {relation.tail}, but the sentence has "
            f"{num_entities} entities, counted from 0: correct the numbers"
        )
