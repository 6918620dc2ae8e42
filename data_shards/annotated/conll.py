"""CoNLL's columns, and tables of words with tags (`input/bio.py`): entities alone, one sentence an item."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity
from data_shards.annotated.document import Document, Mention
from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import ReadReport
from data_shards.annotated.schema import check_label
from data_shards.errors import UserError
from data_shards.input.bio import LineError, entities_of_tags, is_document_start, parse_sentence, read_tagged
from data_shards.input.stream import InputStream

_NO_WORD = re.compile(r"[\t\r\n]")  # what a row cannot hold


def document_of_tags(line: str) -> Document:
    """The document of a sentence, from its line of JSON.

    Raises:
        LineError: a row is malformed.
    """
    rows = parse_sentence(line)
    mentions = [Mention(*entity, number) for number, entity in enumerate(entities_of_tags(rows))]
    return Document.of_words([[word for _, word, _ in rows]], mentions)


def items_of(stream: InputStream) -> Iterator[Item]:
    """The sentences of a file."""
    for line in read_tagged(stream):
        first, *_ = json.loads(line)[0]
        yield Item(f"{stream.name}:{first}", {"file": stream.name, "line": line.decode()}, "conll")


def read(item: Item, index: int, report: ReadReport) -> Document:
    """A sentence; see `unified.read`."""
    try:
        document = document_of_tags(item.value["line"])
    except LineError as error:
        raise UserError(f"{item.value['file']}:{error.line}: {error}: fix it") from error
    for mention in document.mentions:
        check_label(mention.type, item.where)
    return document._replace(number=index)


def lines_of(sentences: Iterable[AnnotatedSentence], findings: Counter[str]) -> Iterator[str]:
    """The lines of a file: word, tab, tag (BIO); an empty line after each sentence, a mark between documents.

    Args:
        sentences: any.
        findings: what the format cannot hold is counted here.
    """
    document = None
    for sentence in sentences:
        if sentence.document != document:
            if document is not None:
                yield "-DOCSTART-\tO\n\n"
            if document := sentence.document:
                findings["names of documents left out, which columns do not hold"] += 1
        if sentence.relations:
            findings["relations left out, which columns do not hold"] += len(sentence.relations)
        for word, tag in zip(sentence.words, _tags(sentence.words, sentence.entities, findings), strict=True):
            if _NO_WORD.search(word) or is_document_start(word.encode()):
                findings["words with tabs or line ends in them (or -DOCSTART-) written with _ in their place"] += 1
                word = re.sub(rf"{_NO_WORD.pattern}|^-", "_", word)
            yield f"{word}\t{tag}\n"
        yield "\n"


def _tags(words: Sequence[str], entities: Sequence[Entity], findings: Counter[str]) -> list[str]:
    """BIO; of entities that share words, the longest (the first of equals) is written."""
    tags = ["O"] * len(words)
    for entity in sorted(entities, key=lambda one: (one.word_start - one.word_end, one.word_start)):
        if any(tag != "O" for tag in tags[entity.word_start : entity.word_end]):
            findings["entities that share words with a longer one left out"] += 1
            continue
        tags[entity.word_start] = f"B-{entity.type}"
        for word in range(entity.word_start + 1, entity.word_end):
            tags[word] = f"I-{entity.type}"
    return tags
