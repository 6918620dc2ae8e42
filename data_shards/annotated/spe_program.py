"""The JSON lines of the SPE and ENPAR programs: one sentence a line, mentions with ids, ends exclusive.

The pieces in it are not read: the encoder's own tokenizer cuts the words.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_shards.annotated.document import Document
from data_shards.annotated.document_builder import DocumentBuilder
from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import WITHOUT_ENTITY, ReadReport
from data_shards.annotated.schema import Fields, Id, Index, Label, Text, parse
from data_shards.errors import UserError


class _EntityMention(Fields):
    emId: Id
    offset: tuple[Index, Index]
    label: Label
    text: Text | None = None


class _RelationMention(Fields):
    em1Id: Id
    em2Id: Id
    label: Label
    em1Text: Text | None = None
    em2Text: Text | None = None


class _Sentence(Fields):
    entityMentions: list[_EntityMention]
    relationMentions: Sequence[_RelationMention] = ()
    sentText: Text | None = None
    tokens: list[Text] | None = None
    articleId: Id = ""
    sentId: Id = ""


def read(item: Item, index: int, report: ReadReport) -> Document:
    """The sentence of an item; see `unified.read`."""
    fields = parse(item, _Sentence, report)
    words = _words(fields, item.where)
    builder = DocumentBuilder([words], item.where, report, numbered=False)
    numbers: dict[str, int] = {}
    for mention in fields.entityMentions:
        if mention.emId in numbers:
            raise UserError(f"{item.where}: two entity mentions with emId {mention.emId!r}: give each its own")
        numbers[mention.emId] = builder.add_mention(*mention.offset, mention.label)
        # The program stops where they differ; files exist that differ in case only.
        builder.check_text(f"mention {mention.emId!r}", *mention.offset, mention.text)
    for relation in fields.relationMentions:
        if relation.em1Id in numbers and relation.em2Id in numbers:
            builder.add_relation(numbers[relation.em1Id], numbers[relation.em2Id], relation.label)
        else:
            report.findings[WITHOUT_ENTITY] += 1
    return builder.build(name=fields.articleId, number=index)


def _words(fields: _Sentence, where: str) -> list[str]:
    if fields.tokens is not None:
        return fields.tokens
    if fields.sentText is None:
        raise UserError(f"{where}: neither 'sentText' nor 'tokens': the sentence has no words")
    text = fields.sentText.strip()
    return text.split(" ") if text else []  # not split(): words may hold other white space
