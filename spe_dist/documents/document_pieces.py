"""An annotated document as pieces, with the pieces of every entity's mentions and the facts between entities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.document import Document
from data_shards.ragged import IntArray, Ragged
from data_shards.shards.entity_words import words_of_characters
from data_shards.text.word_pieces import LocatedWords, WordPieces


@dataclass(frozen=True)
class DocumentPieces:
    """A document of P pieces with E entities, each with a mention at least."""

    piece_ids: NDArray[np.int64]  # [P] without special ones
    mentions: NDArray[np.int64]  # [M, 3] entity, first piece, piece after the last; sorted, so entity by entity
    numbers: NDArray[np.int64]  # of each entity in the document that it was cut from, [E]
    facts: NDArray[np.int64]  # [F, 3] head, tail, number of the relation; sorted, no row twice
    is_cut: bool  # whether sentences at its end were left out
    sentence_starts: NDArray[np.int64]  # first piece of each sentence, and P, [S + 1]

    @classmethod
    def of(
        cls, document: Document, word_pieces: WordPieces, relations: Mapping[str, int], *, max_pieces: int
    ) -> DocumentPieces:
        """The sentences that fit, from the first on, the entities that are mentioned in them, and their facts.

        Args:
            document: given as words or as a text.
            word_pieces: cuts it.
            relations: numbers of the relations that facts name.
            max_pieces: longest sequence, [CLS] and [SEP] included.
        """
        words, sentences, mention_words = _locate(document, word_pieces)
        piece_offsets = words.offsets[sentences]  # of sentences
        fitting = int(np.searchsorted(piece_offsets, max_pieces - 2, side="right")) - 1
        num_words, num_pieces = sentences[fitting], piece_offsets[fitting]
        entities = np.array([mention.entity for mention in document.mentions], dtype=np.int64)
        kept = np.flatnonzero((mention_words[:, 0] < mention_words[:, 1]) & (mention_words[:, 1] <= num_words))
        numbers, entities_of_mentions = np.unique(entities[kept], return_inverse=True)
        pieces = words.offsets[mention_words[kept]]
        rows = np.column_stack([entities_of_mentions.reshape(-1), pieces])
        number_of = {int(entity): number for number, entity in enumerate(numbers)}
        facts = {
            (number_of[fact.head], number_of[fact.tail], relations[fact.type])
            for fact in document.facts
            if fact.head in number_of and fact.tail in number_of and fact.head != fact.tail
        }
        return cls(
            words.values[:num_pieces].astype(np.int64),
            np.unique(rows, axis=0),
            numbers,
            np.array(sorted(facts), dtype=np.int64).reshape(-1, 3),
            bool(fitting < len(sentences) - 1),
            piece_offsets[: fitting + 1].astype(np.int64),
        )

    def first_mention(self, entity: int) -> NDArray[np.int64]:
        """The pieces of an entity's first mention."""
        _, start, end = self.mentions[np.searchsorted(self.mentions[:, 0], entity)]
        return self.piece_ids[start:end]


def _locate(document: Document, word_pieces: WordPieces) -> tuple[Ragged, NDArray[np.int64], NDArray[np.int64]]:
    """The pieces of each word [W], where sentences begin [S + 1], and the words of each mention [M, 2].

    Mentions without words that have pieces are empty, and so are those across sentences of a text.
    """
    if document.words is not None:
        given = word_pieces.encode_given(document.words)
        offsets = given.numbers.offsets
        places = [
            offsets[one.sentence] + np.searchsorted(given.numbers.row(one.sentence), (one.start, one.end))
            for one in document.mentions
        ]
        return given.pieces, offsets, np.array(places, dtype=np.int64).reshape(-1, 2)
    located = locate_text(document, word_pieces)
    spans = np.array(document.characters(), dtype=np.int64).reshape(-1, 2)
    return located.pieces, located.word_offsets, words_of_mentions(located.characters, located.word_offsets, spans)


def locate_text(document: Document, word_pieces: WordPieces) -> LocatedWords:
    """The words of a document that is given as a text, by its sentences; their characters are those of the text."""
    sentences = document.locate_sentences(word_pieces.language)
    located = word_pieces.locate_words([document.text[start:end] for start, end in sentences])
    starts = np.array([start for start, _ in sentences], dtype=np.int64)
    characters = located.characters + np.repeat(starts, np.diff(located.word_offsets))[:, None]
    return replace(located, characters=characters)


def words_of_mentions(words: IntArray, word_offsets: IntArray, mentions: IntArray) -> NDArray[np.int64]:
    """First word, and word after the last, of each mention, [M, 2]; equal if it has none or leaves a sentence.

    Args:
        words: characters of each word, half-open, ascending over all sentences, [W, 2].
        word_offsets: which words each sentence has, [S + 1].
        mentions: their characters, half-open, [M, 2].
    """
    first, last = words_of_characters(words, mentions)
    sentence = np.searchsorted(word_offsets, first, side="right") - 1
    within = last <= np.append(word_offsets, word_offsets[-1])[sentence + 1]
    return np.column_stack([first, np.where(within, last, first)])
