"""DocRED (Re-DocRED, CDR): one document an item, relations between entities that have mentions in several sentences.

`rel_info.json` beside the file names the relations. CDR lists pairs without a relation too, with the label NR.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from data_shards.annotated.document import Document
from data_shards.annotated.document_builder import DocumentBuilder
from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import NO_RELATION, ReadReport
from data_shards.annotated.schema import Fields, Id, Index, Label, Text, parse
from data_shards.counted import counted
from data_shards.errors import UserError

RELATION_NAMES = "rel_info.json"
_NO_RELATION = "NR"


class _Mention(Fields):
    sent_id: Index
    pos: tuple[Index, Index]
    type: Label
    name: Text = ""


class _Fact(Fields):
    h: Index
    t: Index
    r: Label
    evidence: Sequence[Index | None] = ()


class _Document(Fields):
    sents: list[list[Text]]
    vertexSet: list[list[_Mention]]
    labels: Sequence[_Fact] = ()
    title: Id = ""


def load_relation_names(folder: Path) -> dict[str, str]:
    """What the relations' codes mean, from `rel_info.json` in a folder; empty without it.

    Raises:
        UserError: the file is there but is no map of names.
    """
    path = folder / RELATION_NAMES
    if not path.is_file():
        return {}
    try:
        names = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON: correct or remove it") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) and name for name in names.values()):
        raise UserError(f"{path}: expected an object of codes and names: correct or remove it")
    return names


def read(item: Item, index: int, report: ReadReport) -> Document:
    """A document, whose facts have the codes of relations as types; see `unified.read`."""
    document = parse(item, _Document, report)
    builder = DocumentBuilder(document.sents, item.where, report)
    for entity, mentions in enumerate(document.vertexSet):
        for mention in mentions:
            if mention.sent_id >= len(document.sents):
                raise UserError(
                    f"{item.where}: mention {mention.name!r} in sentence {mention.sent_id}, but the document has "
                    f"{counted(len(document.sents), 'sentence')}, counted from 0: correct 'sent_id'"
                )
            builder.add_mention(*mention.pos, mention.type, sentence=mention.sent_id, entity=entity, name=mention.name)
    for fact in document.labels:
        if max(fact.h, fact.t) >= len(document.vertexSet):
            raise UserError(
                f"{item.where}: relation {fact.r!r} from entity {fact.h} to {fact.t}, but 'vertexSet' has "
                f"{counted(len(document.vertexSet), 'entity')}, counted from 0: correct the numbers"
            )
        if fact.h == fact.t:
            raise UserError(f"{item.where}: relation {fact.r!r} of entity {fact.h} with itself: correct or remove it")
        if fact.r == _NO_RELATION and not report.keeps_no_relation:
            report.findings[NO_RELATION] += 1
        else:
            builder.add_fact(fact.h, fact.t, fact.r, [one for one in fact.evidence if one is not None])
    return builder.build(name=document.title)
