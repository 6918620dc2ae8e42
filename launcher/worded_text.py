"""A raw text and the mentions that something has found in it → a document: mentions of one type and name are an entity.

There is no coreference here: "Marie Curie" and "she" are two entities, two people of one name are one. Names are
compared as the nodes of graphs are (`spe_dist/extraction/graphs/graph.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.document import Document, Mention
from data_shards.shards.entity_words import words_of_characters
from data_shards.text.word_pieces import WordPieces
from spe_dist.documents.document_pieces import locate_text, words_of_mentions
from spe_dist.extraction.graphs.graph import normalised
from spe_dist.extraction.predict.cut_texts import Text, readable

WIDENED = "widened to whole words"
ACROSS_SENTENCES = "left out because they leave a sentence"
WITHOUT_WORDS = "left out because they have no words"


@dataclass(frozen=True)
class WordedText:
    """A text as a model of document relations reads it: W words in S sentences.

    Places are counted as in the text: in characters, or in words if it was given as those of one sentence.
    """

    document: Document  # without mentions
    words: NDArray[np.int64]  # [W, 2] place of each word that has pieces, half-open
    word_offsets: NDArray[np.int64]  # [S + 1]

    @classmethod
    def of(cls, text: Text, word_pieces: WordPieces, *, name: str = "") -> WordedText:
        """Cut a text.

        Args:
            text: raw, or the words of one sentence.
            word_pieces: tokenizer of the model.
            name: name of the text; empty if it has none.
        """
        if isinstance(text, str):
            document = Document(readable(text), name=name)
            located = locate_text(document, word_pieces)
            return cls(document, located.characters, located.word_offsets)
        document = Document.of_words([list(map(readable, text))], name=name)
        assert document.words is not None
        numbers = word_pieces.encode_given(document.words).numbers
        return cls(document, np.column_stack([numbers.values, numbers.values + 1]), numbers.offsets)

    @property
    def sentences(self) -> list[list[str]]:
        """The words of each sentence."""
        words = [self._string(start, end) for start, end in self.words.tolist()]
        return [words[start:end] for start, end in pairwise(self.word_offsets.tolist())]

    def with_mentions(self, spans: Iterable[tuple[int, int, str]], changes: Counter[str]) -> Document:
        """The document whose entities are what has been found, in the order in which the text has them.

        Args:
            spans: first place, place after the last, and type of what has been found; none is empty.
            changes: mentions that are widened to whole words, or left out, are counted here.
        """
        found = sorted(spans)
        places = np.array([span[:2] for span in found], dtype=np.int64).reshape(-1, 2)
        touched = np.column_stack(words_of_characters(self.words, places))
        within = words_of_mentions(self.words, self.word_offsets, places)
        numbers: dict[tuple[str, str], int] = {}
        mentions = []
        for (start, end, type), (first, last), (_, end_word) in zip(
            found, touched.tolist(), within.tolist(), strict=True
        ):
            if end_word == first:
                changes[WITHOUT_WORDS if first == last else ACROSS_SENTENCES] += 1
                continue
            begin, stop = int(self.words[first, 0]), int(self.words[last - 1, 1])
            changes[WIDENED] += begin < start or stop > end
            entity = numbers.setdefault((type, normalised(self._string(begin, stop))), len(numbers))
            mentions.append(Mention(begin, stop, type, entity))
        return self.document._replace(mentions=tuple(dict.fromkeys(mentions)))

    def _string(self, start: int, end: int) -> str:
        words: Sequence[Sequence[str]] | None = self.document.words
        return self.document.text[start:end] if words is None else " ".join(words[0][start:end])


def told(changes: Counter[str]) -> str:
    """What has been changed, for people, in one line; empty if nothing has."""
    return ", ".join(f"{count:,} {what}" for what, count in changes.items() if count)
