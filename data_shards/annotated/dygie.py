"""DyGIE and PURE: one document an item; words are counted over the whole document and a span's end is its last word.

SciERC and ACE05 are published so. A sentence's `ner` is `[first word, last word, type]`, its `relations` are
`[head first, head last, tail first, tail last, type]`.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate

from data_shards.annotated.document import Document
from data_shards.annotated.document_builder import DocumentBuilder
from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import ACROSS_SENTENCES, ReadReport
from data_shards.annotated.schema import Fields, Id, Index, Label, Text, parse
from data_shards.counted import counted
from data_shards.errors import UserError

_Entity = tuple[Index, Index, Label]
_Relation = tuple[Index, Index, Index, Index, Label]


class _Document(Fields):
    sentences: list[list[Text]]
    ner: list[list[_Entity]]
    relations: Sequence[list[_Relation]] = ()
    doc_key: Id = ""


def read(item: Item, index: int, report: ReadReport) -> Document:
    """A document; see `unified.read`."""
    document = parse(item, _Document, report)
    for name, rows in (("ner", document.ner), ("relations", document.relations)):
        if rows and len(rows) != len(document.sentences):
            raise UserError(
                f"{item.where}: {counted(len(rows), 'list')} in {name!r} for "
                f"{counted(len(document.sentences), 'sentence')}: give one list for each sentence, [] where it has none"
            )
    starts = list(accumulate(map(len, document.sentences), initial=0))
    builder = DocumentBuilder(document.sentences, item.where, report)
    for number, entities in enumerate(document.ner):
        for first, last, type in entities:
            _check_place(first, last, type, (starts[number], starts[number + 1]), f"{item.where}, sentence {number}")
            builder.add_mention(first - starts[number], last + 1 - starts[number], type, sentence=number)
    for relations in document.relations:
        for relation in relations:
            _add_relation(relation, starts, builder, item.where, report)
    return builder.build(name=document.doc_key)


def _check_place(first: int, last: int, type: str, words: tuple[int, int], where: str) -> None:
    if not words[0] <= first <= last < words[1]:
        raise UserError(
            f"{where}: entity of type {type!r} on words {first} to {last}, but the sentence is words {words[0]} to "
            f"{words[1] - 1}: words are counted over the whole document, and a span's last word is part of it"
        )


def _add_relation(
    relation: _Relation, starts: list[int], builder: DocumentBuilder, where: str, report: ReadReport
) -> None:
    head_first, head_last, tail_first, tail_last, type = relation
    words = (head_first, head_last, tail_first, tail_last)
    if not (head_first <= head_last < starts[-1] and tail_first <= tail_last < starts[-1]):
        raise UserError(
            f"{where}: relation {type!r} between words {list(words)}, but the document has words 0 to {starts[-1] - 1}"
            ": correct the offsets"
        )
    # Looked up by its words, as some files list a relation with another sentence than that of its arguments.
    sentences = [bisect.bisect_right(starts, word) - 1 for word in words]
    head, tail = (
        (number, first - starts[number], last + 1 - starts[number])
        for number, first, last in ((sentences[0], *words[:2]), (sentences[2], *words[2:]))
    )
    if len(set(sentences)) > 1 and not builder.has_mentions(head, tail):
        report.findings[ACROSS_SENTENCES] += 1
    else:
        builder.add_relation_of_spans(head, tail, type)
