"""Documents → sentences, with the entities that the documents list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.gold_entities import Document
from data_shards.ragged import offsets_from_lengths
from data_shards.sentences import locate_sentences
from data_shards.word_rules import WordRules


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
        """First character, character after the last, and number of the type of every entity that is listed, [E, 3]."""
        number_of_type = {type: number for number, type in enumerate(types)}
        rows = [
            (begin + entity.start, begin + entity.end, number_of_type[entity.type])
            for document, begin in zip(self.documents, self.document_starts.tolist(), strict=False)
            for entity in document.entities
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
        for start, end in _places_of_sentences(document, language):
            texts.append(document.text[start:end])
            starts.append(begin + start)
    return DocumentSentences(texts, np.array(starts, dtype=np.int64), documents, document_starts)


def _places_of_sentences(document: Document, language: str) -> list[tuple[int, int]]:
    text = document.text
    if not document.is_sentence:
        return locate_sentences(text, language)
    start = len(text) - len(text.lstrip())
    return [(start, len(text.rstrip()))] if start < len(text) else []
