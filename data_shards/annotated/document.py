"""A document as every reader of annotated data gives it: a text or sentences of words, its mentions, its relations.

`Document.sentences()` is what work on single sentences uses; `split_documents` cuts documents for shards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain, pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.annotated.read_report import (
    ACROSS_SENTENCES,
    DUPLICATE_ENTITIES,
    DUPLICATE_RELATIONS,
    ENTITIES_ACROSS_SENTENCES,
    ENTITIES_WITHOUT_WORDS,
    SHARED_MENTION,
    TEXTS_WITHOUT_WORDS,
    WIDENED,
    WITHOUT_ENTITY,
    WITHOUT_WORDS,
)
from data_shards.ragged import IntArray, offsets_from_lengths
from data_shards.shards.entity_words import words_of_characters
from data_shards.text.sentences import locate_sentences
from data_shards.text.word_rules import WordRules


class Mention(NamedTuple):
    """A place where an entity is named.

    Args:
        start: its first word, counted in its sentence; in a document that is a text, its first character.
        end: one past the last.
        type: type of the entity, as this mention has it.
        entity: number of the entity in the document: mentions of the same one share it.
        sentence: number of the sentence of words; 0 in a text.
        name: what the file calls it, if it says so beside the words.
    """

    start: int
    end: int
    type: str
    entity: int
    sentence: int = 0
    name: str = ""


class Fact(NamedTuple):
    """A directed, typed relation between two entities of a document, by their numbers.

    Args:
        head: its first argument.
        tail: its second argument.
        type: its label.
        evidence: numbers of the sentences that state it, if the file says so.
    """

    head: int
    tail: int
    type: str
    evidence: tuple[int, ...] = ()


class _Place(NamedTuple):
    sentence: int
    start: int  # word
    end: int


class Document(NamedTuple):
    """A text and what is known of it.

    Args:
        text: text of the document; of words, these with a space between two, and a newline between two sentences.
        mentions: in the order of the file; they may overlap, and be listed twice.
        facts: between entities, possibly of different sentences.
        words: its sentences, if the file gives words; the text is not split then.
        is_sentence: the text is a single sentence, not to be split.
        name: title or id; empty if the file knows none.
        number: number of its first sentence.
        identities: of each entity by its number, the code that a knowledge base knows it by ("Q42"); empty if none.
    """

    text: str
    mentions: tuple[Mention, ...] = ()
    facts: tuple[Fact, ...] = ()
    words: tuple[tuple[str, ...], ...] | None = None
    is_sentence: bool = False
    name: str = ""
    number: int = 0
    identities: tuple[str, ...] = ()

    @classmethod
    def of_words(
        cls,
        sentences: Iterable[Sequence[str]],
        mentions: Iterable[Mention] = (),
        facts: Iterable[Fact] = (),
        *,
        name: str = "",
        number: int = 0,
    ) -> Document:
        """A document that is given as sentences of words."""
        words = tuple(map(tuple, sentences))
        text = "\n".join(map(" ".join, words))
        return cls(text, tuple(mentions), tuple(facts), words, False, name, number)

    def characters(self) -> list[tuple[int, int]]:
        """The characters of each mention in the text, half-open."""
        if self.words is None:
            return [(mention.start, mention.end) for mention in self.mentions]
        begins = self._sentence_begins(self.words)
        starts = [
            list(accumulate((len(word) + 1 for word in words), initial=begin))
            for words, begin in zip(self.words, begins, strict=False)
        ]
        return [(starts[one.sentence][one.start], starts[one.sentence][one.end] - 1) for one in self.mentions]

    def locate_sentences(self, language: str) -> list[tuple[int, int]]:
        """The characters of each sentence, half-open, without white space around it; none of blank sentences."""
        if self.words is None and not self.is_sentence:
            return locate_sentences(self.text, language)
        if self.words is None or len(self.words) == 1:
            lines: Iterable[tuple[int, str]] = [(0, self.text)]
        else:
            lines = ((start, self.text[start : end - 1]) for start, end in pairwise(self._sentence_begins(self.words)))
        return [
            (start + len(line) - len(stripped), start + len(line.rstrip()))
            for start, line in lines
            if (stripped := line.lstrip())
        ]

    @staticmethod
    def _sentence_begins(sentences: tuple[tuple[str, ...], ...]) -> list[int]:
        """The first character of each sentence of words, and of one after the last."""
        return list(accumulate((max(1, sum(map(len, words)) + len(words)) for words in sentences), initial=0))

    def locate_words(self, language: str) -> tuple[IntArray, IntArray]:
        """Characters of each word of a text, [W, 2], and which words each sentence has, [S + 1]."""
        return _locate_words(self.text, self.is_sentence, language)

    def sentences(self, language: str = "en", findings: Counter[str] | None = None) -> list[AnnotatedSentence]:
        """Its sentences, each with the entities and relations within it.

        Mentions of the same words and type are one entity of the sentence; a fact holds between all mentions of its two
        entities that share a sentence.

        Args:
            language: whose rules cut a text (a spaCy language code).
            findings: what is merged, widened or left out is counted here, by the names of `read_report`.
        """
        findings = Counter() if findings is None else findings
        if self.words is None:
            words, places = self._cut(language, findings)
        else:
            words, places = self.words, [_Place(one.sentence, one.start, one.end) for one in self.mentions]
            if not words:
                findings[TEXTS_WITHOUT_WORDS] += 1
        entities: list[dict[Entity, int]] = [{} for _ in words]
        numbers: dict[int, dict[int, list[int]]] = {}  # of an entity of the document, those in each sentence
        for mention, place in zip(self.mentions, places, strict=True):
            if place is None:
                continue
            known, entity = entities[place.sentence], Entity(place.start, place.end, mention.type)
            if entity in known:
                findings[DUPLICATE_ENTITIES] += 1
            number = known.setdefault(entity, len(known))
            of_sentence = numbers.setdefault(mention.entity, {}).setdefault(place.sentence, [])
            if number not in of_sentence:
                of_sentence.append(number)
        relations = self._relations(numbers, findings)
        if blank := sum(not one for one in words):
            findings[WITHOUT_WORDS] += blank
        return [
            AnnotatedSentence(one, tuple(entities[index]), tuple(relations[index]), self.name, self.number + index)
            for index, one in enumerate(words)
            if one
        ]

    def _relations(
        self, numbers: dict[int, dict[int, list[int]]], findings: Counter[str]
    ) -> dict[int, dict[Relation, None]]:
        """The relations of each sentence, from the numbers that the document's entities have in it."""
        relations: dict[int, dict[Relation, None]] = defaultdict(dict)
        for fact in self.facts:
            heads, tails = numbers.get(fact.head, {}), numbers.get(fact.tail, {})
            shared = sorted(heads.keys() & tails.keys())
            if self.words is None and not (heads and tails):
                findings[WITHOUT_ENTITY] += 1
            elif not shared:
                findings[ACROSS_SENTENCES] += 1
            pairs = ((s, head, tail) for s in shared for head, tail in product(heads[s], tails[s]))
            for sentence, head, tail in pairs:
                relation = Relation(head, tail, fact.type)
                if head == tail:
                    findings[SHARED_MENTION] += 1
                elif relation in relations[sentence]:
                    findings[DUPLICATE_RELATIONS] += 1
                else:
                    relations[sentence][relation] = None
        return relations

    def _cut(self, language: str, findings: Counter[str]) -> tuple[tuple[tuple[str, ...], ...], list[_Place | None]]:
        """The sentences of a text as words, and where each mention is; an entity has all words that it touches."""
        words, offsets = self.locate_words(language)
        if not len(words):
            findings[TEXTS_WITHOUT_WORDS] += 1
        spans = np.array(self.characters(), dtype=np.int64).reshape(-1, 2)
        places: list[_Place | None] = []
        for (begin, end), first, last in zip(spans.tolist(), *words_of_characters(words, spans), strict=True):
            sentence = int(np.searchsorted(offsets, first, side="right")) - 1
            place = None
            if first == last:
                findings[ENTITIES_WITHOUT_WORDS] += 1
            elif last > offsets[sentence + 1]:
                findings[ENTITIES_ACROSS_SENTENCES] += 1
            else:
                if words[first, 0] < begin or words[last - 1, 1] > end:
                    findings[WIDENED] += 1
                place = _Place(sentence, int(first - offsets[sentence]), int(last - offsets[sentence]))
            places.append(place)
        strings = [self.text[start:end] for start, end in words.tolist()]
        return tuple(tuple(strings[a:b]) for a, b in pairwise(offsets.tolist())), places


@lru_cache(maxsize=1)
def _rules(language: str) -> WordRules:
    return WordRules(language)


@lru_cache(maxsize=1)
def _locate_words(text: str, is_sentence: bool, language: str) -> tuple[IntArray, IntArray]:
    return split_documents([Document(text, is_sentence=is_sentence)], language).locate_words(_rules(language))


@dataclass(frozen=True)
class DocumentSentences:
    """S sentences; characters are counted over all documents, laid end to end with a character between two."""

    texts: list[str]
    starts: NDArray[np.int64]
    """First character of each sentence, [S]."""
    documents: Sequence[Document]
    document_starts: NDArray[np.int64]
    """First character of each document, and the end of the last."""

    def entities(self, types: Sequence[str]) -> NDArray[np.int64]:
        """First character, character after the last, and number of the type of every mention, [E, 3]."""
        number_of_type = {type: number for number, type in enumerate(types)}
        rows = [
            (begin + start, begin + end, number_of_type[mention.type])
            for document, begin in zip(self.documents, self.document_starts.tolist(), strict=False)
            for mention, (start, end) in zip(document.mentions, document.characters(), strict=True)
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 3)

    def locate_words(self, rules: WordRules) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Characters of each word, counted as those of sentences, [W, 2]; which words each sentence has, [S + 1]."""
        places = [list(rules.locate_words(text)) for text in self.texts]
        word_offsets = offsets_from_lengths(np.array([len(words) for words in places], dtype=np.int64))
        words = np.array(list(chain.from_iterable(places)), dtype=np.int64).reshape(-1, 2)
        return words + np.repeat(self.starts, np.diff(word_offsets))[:, None], word_offsets


def split_documents(documents: Sequence[Document], language: str) -> DocumentSentences:
    """The sentences of documents."""
    document_starts = offsets_from_lengths(np.array([len(d.text) + 1 for d in documents], dtype=np.int64))
    texts, starts = [], []
    for document, begin in zip(documents, document_starts.tolist(), strict=False):
        for start, end in document.locate_sentences(language):
            texts.append(document.text[start:end])
            starts.append(begin + start)
    return DocumentSentences(texts, np.array(starts, dtype=np.int64), documents, document_starts)
