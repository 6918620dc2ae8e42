"""DocRED (Re-DocRED, CDR): one document an item, relations between entities that have mentions in several sentences.

Sentence-level use: every mention is an entity of its sentence, and a relation holds between all mentions of its two
entities that share a sentence. `rel_info.json` beside the file names the relations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.items import Item
from data_shards.annotated.read_report import ACROSS_SENTENCES, SHARED_MENTION, TEXTS_WITHOUT_WORDS, ReadReport
from data_shards.annotated.schema import Fields, Id, Index, Label, Text, parse
from data_shards.annotated.sentence_builder import SentenceBuilder
from data_shards.errors import UserError

RELATION_NAMES = "rel_info.json"


class _Mention(Fields):
    sent_id: Index
    pos: tuple[Index, Index]
    type: Label
    name: Text = ""


class _Fact(Fields):
    h: Index
    t: Index
    r: Label


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


def read(item: Item, index: int, report: ReadReport, *, relation_names: Mapping[str, str]) -> list[AnnotatedSentence]:
    """The sentences of a document; see `unified.read`. Codes without a name stay codes."""
    document = parse(item, _Document, report)
    if not document.sents:
        report.findings[TEXTS_WITHOUT_WORDS] += 1
    builders = [
        SentenceBuilder(words, f"{item.where}, sentence {number}", report, document=document.title, number=number)
        for number, words in enumerate(document.sents)
    ]
    mentions = [_add_mentions(mentions, builders, item.where) for mentions in document.vertexSet]
    for fact in document.labels:
        if max(fact.h, fact.t) >= len(mentions):
            raise UserError(
                f"{item.where}: relation {fact.r!r} from entity {fact.h} to {fact.t}, but 'vertexSet' has "
                f"{len(mentions)} entities, counted from 0: correct the numbers"
            )
        if fact.h == fact.t:
            raise UserError(f"{item.where}: relation {fact.r!r} of entity {fact.h} with itself: correct or remove it")
        _add_fact(fact, mentions, builders, relation_names.get(fact.r, fact.r), report)
    return [sentence for builder in builders for sentence in builder.build()]


def _add_mentions(mentions: list[_Mention], builders: list[SentenceBuilder], where: str) -> dict[int, list[int]]:
    """Add an entity's mentions to their sentences; returns {sentence: numbers of the entities there}."""
    numbers: dict[int, list[int]] = {}
    for mention in mentions:
        if mention.sent_id >= len(builders):
            raise UserError(
                f"{where}: mention {mention.name!r} in sentence {mention.sent_id}, but the document has "
                f"{len(builders)} sentences, counted from 0: correct 'sent_id'"
            )
        number = builders[mention.sent_id].add_entity(*mention.pos, mention.type)
        found = numbers.setdefault(mention.sent_id, [])
        if number not in found:
            found.append(number)
    return numbers


def _add_fact(
    fact: _Fact, mentions: list[dict[int, list[int]]], builders: list[SentenceBuilder], name: str, report: ReadReport
) -> None:
    heads, tails = mentions[fact.h], mentions[fact.t]
    shared = heads.keys() & tails.keys()
    if not shared:
        report.findings[ACROSS_SENTENCES] += 1
    for sentence in sorted(shared):
        for head, tail in product(heads[sentence], tails[sentence]):
            if head == tail:
                report.findings[SHARED_MENTION] += 1
            else:
                builders[sentence].add_relation(head, tail, name)
