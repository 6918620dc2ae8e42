"""spaCy's DocBin (`.spacy`): one Doc an item.

Entities are those of `doc.spans["sc"]` if there is such a group, which may overlap, else `doc.ents`. Relations are
those of the extension `doc._.rel`: {(first word of the head, of the tail): {type: 1.0}}, as spaCy's tutorial on
relations has them. A Doc whose words all have a space after them was made of words, which are kept; of others, the
text is cut by our rules, as all texts are.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

from data_shards.annotated.document import Document, Fact, Mention
from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import (
    ENTITIES_ACROSS_SENTENCES,
    ENTITIES_WITHOUT_WORDS,
    WIDENED,
    WITHOUT_ENTITY,
    ReadReport,
)
from data_shards.annotated.schema import check_label
from data_shards.errors import UserError

ENDING = ".spacy"
_GROUP = "sc"  # of spans, that spaCy's own component for overlapping ones reads
_RELATIONS, _NAME = ("._.", "rel", None, None), ("._.", "id", None, None)  # of user data: `doc._.rel`, `doc._.id`
_LEAST = 0.5  # of a label that is meant


def items_of_file(path: Path) -> Iterator[Item]:
    """The Docs of a file.

    Raises:
        UserError: it cannot be read.
    """
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    try:
        docs = DocBin().from_bytes(path.read_bytes()).get_docs(Vocab())
        for number, doc in enumerate(docs, start=1):
            yield Item(f"{path}: Doc {number}", {"doc": doc}, "spacy")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (zlib.error, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: not a DocBin of spaCy, or a damaged one ({error}): write it again") from error


def read(item: Item, index: int, report: ReadReport) -> Document:
    """The text of a Doc; see `unified.read`."""
    doc = item.value["doc"]
    spans = list(doc.spans.get(_GROUP, doc.ents))
    for span in spans:
        check_label(span.label_, item.where)
    numbers, facts = _by_first_word(dict(enumerate(spans))), []
    for (head, tail), types in dict(doc.user_data.get(_RELATIONS) or {}).items():
        meant = [type for type, share in types.items() if share >= _LEAST]
        if head in numbers and tail in numbers and head != tail:
            facts += [Fact(numbers[head], numbers[tail], type) for type in meant]
        elif meant:
            report.findings[WITHOUT_ENTITY] += len(meant)
    name = doc.user_data.get(_NAME)
    name = name if isinstance(name, str) else ""
    if any(token.text.isspace() or not (token.whitespace_ or token.i == len(doc) - 1) for token in doc):
        mentions = [Mention(one.start_char, one.end_char, one.label_, number) for number, one in enumerate(spans)]
        return Document(doc.text, tuple(mentions), tuple(facts), name=name or f"text {index}")
    return _of_words(doc, spans, facts, name, report)._replace(number=0 if name else index)


def _by_first_word(spans: Mapping[int, Any]) -> dict[int, int]:
    """What relations name: first word → number of the entity, the longest if several begin there."""
    ordered = sorted(spans.items(), key=lambda one: (one[1].end - one[1].start, -one[0]))
    return {span.start: number for number, span in ordered}


def _of_words(doc: Any, spans: Sequence[Any], facts: Sequence[Fact], name: str, report: ReadReport) -> Document:
    starts = [0, *(token.i for token in doc if token.i and token.is_sent_start)]
    sentences = [[token.text for token in doc[start:end]] for start, end in pairwise([*starts, len(doc)])]
    mentions = []
    for number, span in enumerate(spans):
        sentence = bisect_right(starts, span.start) - 1
        start, end = span.start - starts[sentence], span.end - starts[sentence]
        if end > len(sentences[sentence]):
            report.findings[ENTITIES_ACROSS_SENTENCES] += 1
        else:
            mentions.append(Mention(start, end, span.label_, number, sentence))
    return Document.of_words(sentences, mentions, facts, name=name)


def docs_of(
    documents: Iterable[tuple[Document, Sequence[tuple[int, int, str]]]], language: str, findings: Counter[str]
) -> bytes:
    """The bytes of a file.

    Args:
        documents: each with its relations: numbers of head and tail among its mentions, and type.
        language: whose rules cut a text into words.
        findings: what the format cannot hold is counted here.
    """
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    vocab = Vocab()
    found = DocBin(attrs=["ORTH", "SPACY", "ENT_IOB", "ENT_TYPE", "SENT_START"], store_user_data=True)
    for document, relations in documents:
        found.add(_doc(document, relations, language, vocab, findings))
    return bytes(found.to_bytes())


def _doc(
    document: Document, relations: Sequence[tuple[int, int, str]], language: str, vocab: Any, findings: Counter[str]
) -> Any:
    from spacy.tokens import Span
    from spacy.util import filter_spans

    doc, begins = _words_of(document, language, vocab, findings)
    spans: dict[int, Any] = {}  # of mentions
    for number, (mention, (start, end)) in enumerate(zip(document.mentions, document.characters(), strict=True)):
        if document.words is not None:
            begin = begins[mention.sentence]
            spans[number] = Span(doc, begin + mention.start, begin + mention.end, mention.type)
            continue
        span = doc.char_span(start, end, label=mention.type, alignment_mode="expand")
        if span is None or not span.text.strip():
            findings[ENTITIES_WITHOUT_WORDS] += 1
            continue
        if (span.start_char, span.end_char) != (start, end):
            findings[WIDENED] += 1
        spans[number] = span
    doc.ents = filter_spans(list(spans.values()))
    if len(doc.ents) < len(spans):
        findings['entities that share words, in doc.spans["sc"] alone'] += len(spans) - len(doc.ents)
        doc.spans[_GROUP] = list(spans.values())
    first = _by_first_word(spans)
    written: dict[tuple[int, int], dict[str, float]] = {}
    for head, tail, type in relations:
        if head in spans and tail in spans and first[spans[head].start] == head and first[spans[tail].start] == tail:
            written.setdefault((spans[head].start, spans[tail].start), {})[type] = 1.0
        else:
            findings["relations left out whose argument begins on the word on which another entity begins"] += 1
    doc.user_data[_RELATIONS] = written
    if document.name:
        doc.user_data[_NAME] = document.name
    return doc


def _words_of(document: Document, language: str, vocab: Any, findings: Counter[str]) -> tuple[Any, list[int]]:
    """A Doc without annotation, and the first word of each sentence of words."""
    from spacy.tokens import Doc
    from spacy.util import get_words_and_spaces

    if document.words is None:
        words = [document.text[start:end] for start, end in document.locate_words(language)[0].tolist()]
        return Doc(vocab, *get_words_and_spaces(words, document.text)), []
    begins = list(accumulate(map(len, document.words), initial=0))
    words = list(chain.from_iterable(document.words))
    if blank := sum(not word.strip() for word in words):
        findings["words of blanks written as _"] += blank
    words = [word if word.strip() else "_" for word in words]
    first = set(begins)
    starts = [number in first for number in range(len(words))]
    return Doc(vocab, words=words, spaces=[True] * len(words), sent_starts=starts), begins
