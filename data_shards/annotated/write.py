"""Documents or their sentences → a file or folder of any format, and what that format could not hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

from data_shards.annotated import brat, conll, gliner, label_studio, spacy_docs, triples
from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.document import Document, Fact, Mention
from data_shards.annotated.read_report import WITHOUT_ENTITY
from data_shards.annotated.unified import write_file, write_unified
from data_shards.errors import UserError
from data_shards.files import require_name, written_folder

WrittenFormat = Literal[
    "unified", "characters", "label_studio", "brat", "conll", "spacy", "gliner", "glirel", "triples"
]  # fmt: skip
OF_TEXTS: tuple[WrittenFormat, ...] = ("characters", "label_studio", "brat", "spacy", "triples")
"""Formats that hold texts or documents; the others hold sentences of words."""
_ENDINGS: dict[str, WrittenFormat] = {
    ".conll": "conll", ".bio": "conll", ".iob": "conll", ".iob2": "conll", ".spacy": "spacy",
}  # fmt: skip
_OF_OTHERS = {".csv", ".tsv", ".txt", ".ann", ".parquet", ".html"}  # JSON under such a name would be found by nobody

Between = Sequence[tuple[int, int, str]]  # numbers of head and tail among a document's mentions, and type

SEVERAL_MENTIONS = (
    "relations of entities with several mentions written once, between those nearest to each other; which mentions are "
    "of one entity is left out"
)
IDENTITIES = "links of entities to a knowledge base left out"


def format_of_out(out: Path, given: WrittenFormat | None) -> WrittenFormat:
    """The format to write: the given one, or what the ending tells (folder: brat).

    Raises:
        UserError: name and format do not fit, or the ending is that of something else.
    """
    ending = out.suffixes[-2] if out.suffix in (".gz", ".bz2") and len(out.suffixes) > 1 else out.suffix
    if given is None and ending in _OF_OTHERS:
        raise UserError(
            f"{out}: {ending} is no ending of a format that is written: end the name in .jsonl, .conll or .spacy, "
            "or give --to"
        )
    found = given or _ENDINGS.get(ending, "brat" if not ending or out.is_dir() else "unified")
    if found == "spacy" and out.suffix != spacy_docs.ENDING:
        raise UserError(f"{out}: spaCy reads files whose names end in {spacy_docs.ENDING}: name it so")
    if (found == "brat") != (not ending or out.is_dir()):
        named = "a folder, whose name has no ending" if found == "brat" else "a file, such as data.jsonl"
        raise UserError(f"{out}: format {found} is written as {named}: name one")
    if found == "brat":
        require_name(out)
    return found


def write_sentences(sentences: Sequence[AnnotatedSentence], out: Path, format: WrittenFormat) -> Counter[str]:
    """Write sentences in a format of words; returns what it could not hold, and how often."""
    findings: Counter[str] = Counter()
    if format == "unified":
        write_unified(sentences, out)
    elif format == "conll":
        write_file(out, "".join(conll.lines_of(sentences, findings)).encode())
    else:
        with_relations = format == "glirel"
        if not with_relations and (lost := sum(len(one.relations) for one in sentences)):
            findings["relations left out, which GLiNER's files do not hold"] += lost
        if lost := sum(bool(one.document) for one in sentences):
            findings["names of documents left out"] += lost
        write_file(out, _json_lines(gliner.item_of(one, with_relations=with_relations) for one in sentences))
    return findings


def write_documents(documents: Sequence[Document], out: Path, format: WrittenFormat, language: str) -> Counter[str]:
    """Write documents in a format of texts; returns what it could not hold, and how often.

    Args:
        documents: any; of words, the text is these with spaces between them, a sentence a line.
        out: file, or folder of brat, which must be empty or not there.
        format: one of `OF_TEXTS`.
        language: whose rules cut a text into words, for spaCy.
    """
    findings: Counter[str] = Counter()
    if lost := sum(bool(identity) for document in documents for identity in document.identities):
        findings[IDENTITIES] += lost
    if format == "brat":
        with written_folder(out) as folder:
            texts = (brat.BratText(one, _first_mentions(one, findings)) for one in documents)
            for name, content in brat.files_of(texts, findings):
                (folder / name).write_bytes(content.encode())
        return findings
    listed = ((one, between_mentions(one, findings)) for one in documents)
    if format == "spacy":
        write_file(out, spacy_docs.docs_of(listed, language, findings))
        return findings
    items: dict[WrittenFormat, Callable[[Document, Between], dict[str, Any]]] = {
        "characters": _characters_item,
        "label_studio": _label_studio_task,
        "triples": triples.item_of,
    }
    found = [items[format](document, between) for document, between in listed]
    if format == "triples":
        _count_lost_of_triples(documents, findings)
    if format == "label_studio":
        write_file(out, (json.dumps(found, ensure_ascii=False, indent=1) + "\n").encode())
    else:
        write_file(out, _json_lines(found))
    return findings


def documents_of(sentences: Iterable[AnnotatedSentence]) -> list[Document]:
    """Sentences as documents of their own."""
    return [
        Document.of_words(
            [one.words],
            [Mention(e.word_start, e.word_end, e.type, number) for number, e in enumerate(one.entities)],
            [Fact(relation.head, relation.tail, relation.type) for relation in one.relations],
            name=f"{one.document} {one.number}".strip(),
            number=one.number,
        )
        for one in sentences
    ]


def between_mentions(document: Document, findings: Counter[str]) -> Between:
    """A document's relations as relations of mentions: of several, the two that are nearest to each other."""
    mentions = _mentions_of_entities(document)
    places = document.characters()

    def distance(pair: tuple[int, int]) -> int:
        (start, end), (other_start, other_end) = (places[number] for number in pair)
        return max(start, other_start) - min(end, other_end)

    found: dict[tuple[int, int, str], None] = {}
    for fact in document.facts:
        heads, tails = mentions.get(fact.head, []), mentions.get(fact.tail, [])
        if not (heads and tails):
            findings[WITHOUT_ENTITY] += 1
            continue
        if len(heads) > 1 or len(tails) > 1:
            findings[SEVERAL_MENTIONS] += 1
        head, tail = min(product(heads, tails), key=distance)
        found[head, tail, fact.type] = None
    return list(found)


def _first_mentions(document: Document, findings: Counter[str]) -> Between:
    """The same, for a format that knows which mentions are of one entity."""
    mentions = _mentions_of_entities(document)
    facts = [fact for fact in document.facts if fact.head in mentions and fact.tail in mentions]
    if len(facts) < len(document.facts):
        findings[WITHOUT_ENTITY] += len(document.facts) - len(facts)
    return list(dict.fromkeys((mentions[fact.head][0], mentions[fact.tail][0], fact.type) for fact in facts))


def _mentions_of_entities(document: Document) -> dict[int, list[int]]:
    mentions: dict[int, list[int]] = {}
    for number, mention in enumerate(document.mentions):
        mentions.setdefault(mention.entity, []).append(number)
    return mentions


def _characters_item(document: Document, between: Between) -> dict[str, Any]:
    named = {"id": document.name} if document.name else {}
    return named | {
        "text": document.text,
        "entities": [
            {"type": mention.type, "start": start, "end": end, "text": document.text[start:end]}
            for mention, (start, end) in zip(document.mentions, document.characters(), strict=True)
        ],
        "relations": [{"type": type, "head": head, "tail": tail} for head, tail, type in between],
    }


def _label_studio_task(document: Document, between: Between) -> dict[str, Any]:
    entities = [
        (start, end, mention.type, None)
        for mention, (start, end) in zip(document.mentions, document.characters(), strict=True)
    ]
    named = {"id": document.name} if document.name else {}
    found = label_studio.results(document.text, entities, [(*one, None) for one in between])
    return {"data": named | {label_studio.TEXT: document.text}, "annotations": [{"result": found}]}


def _count_lost_of_triples(documents: Sequence[Document], findings: Counter[str]) -> None:
    alone = typed = 0
    for document in documents:
        related = {entity for fact in document.facts for entity in (fact.head, fact.tail)}
        alone += sum(mention.entity not in related for mention in document.mentions)
        typed += sum(mention.entity in related for mention in document.mentions)
    lost = {"entities without a relation left out": alone, "types and offsets of entities left out": typed}
    for what, count in lost.items():
        if count:
            findings[f"{what}, which triples do not hold"] += count


def _json_lines(items: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()
