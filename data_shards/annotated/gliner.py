"""GLiNER's and GLiREL's JSON: one text an item as words, ends inclusive.

    GLiNER   tokenized_text, ner [[first, last, type]]
    GLiREL   the same, with relations [{head {position [first, last], type}, tail {…}, relation_text}]

GLiNER's models of relations have relations [[head, tail, type]], by the numbers of entities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.document import Document
from data_shards.annotated.document_builder import DocumentBuilder
from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import ReadReport
from data_shards.annotated.schema import LIST, OBJECT, EntityList, Fields, Id, Index, Label, Text, form, parse


class _Argument(Fields):
    position: tuple[Index, Index]
    type: Text = ""
    mention: Text | list[Text] = ""


class _Relation(Fields):
    head: _Argument
    tail: _Argument
    relation_text: Label


class _Sentence(Fields):
    tokenized_text: list[Text]
    ner: list[EntityList]
    relations: Sequence[
        Annotated[
            Annotated[_Relation, Tag(OBJECT)] | Annotated[tuple[Index, Index, Label], Tag(LIST)], Discriminator(form)
        ]
    ] = ()
    id: Id = ""


def read(item: Item, index: int, report: ReadReport) -> Document:
    """The text of an item; see `unified.read`."""
    fields = parse(item, _Sentence, report)
    builder = DocumentBuilder([fields.tokenized_text], item.where, report, numbered=False)
    numbers: dict[tuple[int, int, str], int] = {}
    for first, last, type in fields.ner:
        numbers.setdefault((first, last, type), builder.add_mention(first, last + 1, type))
    for relation in fields.relations:
        if isinstance(relation, tuple):
            builder.add_relation(*relation)
            continue
        keys = [(*one.position, one.type) for one in (relation.head, relation.tail)]
        if all(key in numbers for key in keys):
            builder.add_relation(numbers[keys[0]], numbers[keys[1]], relation.relation_text)
        else:  # the type of an argument may be any word
            head_place, tail_place = ((0, first, last + 1) for first, last, _ in keys)
            builder.add_relation_of_spans(head_place, tail_place, relation.relation_text)
    return builder.build(name=fields.id, number=index)


def item_of(sentence: AnnotatedSentence, *, with_relations: bool) -> dict[str, Any]:
    """A sentence as an item of GLiREL or, without relations, of GLiNER."""
    spans = [(one.word_start, one.word_end - 1, one.type) for one in sentence.entities]
    words = [" ".join(sentence.words[first : last + 1]) for first, last, _ in spans]
    fields: dict[str, Any] = {"tokenized_text": list(sentence.words)}
    if not with_relations:
        return fields | {"ner": [list(span) for span in spans]}
    arguments = [
        {"mention": text, "position": [first, last], "type": type}
        for (first, last, type), text in zip(spans, words, strict=True)
    ]
    return fields | {
        "ner": [[*span, text] for span, text in zip(spans, words, strict=True)],
        "relations": [
            {"head": arguments[one.head], "tail": arguments[one.tail], "relation_text": one.type}
            for one in sentence.relations
        ],
    }
