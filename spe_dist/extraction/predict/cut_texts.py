"""Texts → sentences → words → windows that an encoder takes, as arrays; no word that has pieces is left out.

Raw text is cut by the rules that shards are built with. Text that is words already is one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import Ragged, offsets_from_lengths
from data_shards.text.sentences import locate_sentences
from data_shards.text.word_pieces import LocatedWords, WordPieces
from spe_dist.extraction.model.encoded_sentences import Rows, cut_rows
from spe_dist.extraction.model.windows import Window
from spe_dist.extraction.model.word_shapes import word_shapes

Text = str | Sequence[str]
"""A raw text, or the words of one sentence."""
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class CutTexts:
    """Some texts with S sentences and W words; characters are those of the text, words joined by spaces."""

    strings: Sequence[str]  # of each text
    tokens: Sequence[tuple[str, ...] | None]  # of each text that was given as words
    sentence_texts: NDArray[np.int64]  # [S] number of the text; the sentences of a text are in order
    sentence_characters: NDArray[np.int64]  # [S, 2] half-open
    word_characters: NDArray[np.int64]  # [W, 2] half-open
    word_numbers: NDArray[np.int64]  # [W] of each word in its sentence; words without pieces count if they were given
    word_offsets: NDArray[np.int64]  # [S + 1]
    windows: Sequence[list[Window]]  # of each sentence
    rows: Rows  # a row for each window


def cut_texts(texts: Sequence[Text], word_pieces: WordPieces, *, max_pieces: int) -> CutTexts:
    """Cut texts for an encoder.

    Words without pieces are passed over, as everywhere (see `WordPieces`); those that are given keep their numbers. A
    word that fills more than a window keeps its first pieces.

    Args:
        texts: each a raw text, or words.
        word_pieces: tokenizer of the encoder.
        max_pieces: maximum number of pieces of a window, without special pieces.
    """
    strings = [text if isinstance(text, str) else " ".join(text) for text in texts]
    raw = {number: readable(text) for number, text in enumerate(texts) if isinstance(text, str)}
    given = {
        number: [readable(word) for word in text] for number, text in enumerate(texts) if not isinstance(text, str)
    }
    sentences = _Sentences.concat(_of_raw(raw, word_pieces), _of_words(given, word_pieces))
    words = sentences.words
    texts_of_words = np.repeat(sentences.texts, np.diff(words.word_offsets)).tolist()
    starts, ends = words.characters.T.tolist()  # not a list for each word: the garbage collector goes through them
    places = zip(texts_of_words, starts, ends, strict=True)
    shapes = word_shapes(strings[text][start:end] for text, start, end in places)
    windows, rows = cut_rows(words.pieces, shapes, words.word_offsets, room=max_pieces)
    return CutTexts(
        strings=strings,
        tokens=[None if isinstance(text, str) else tuple(text) for text in texts],
        sentence_texts=sentences.texts,
        sentence_characters=sentences.characters,
        word_characters=words.characters,
        word_numbers=sentences.word_numbers,
        word_offsets=words.word_offsets,
        windows=windows,
        rows=rows,
    )


@dataclass(frozen=True)
class _Sentences:
    texts: NDArray[np.int64]  # [S]
    characters: NDArray[np.int64]  # [S, 2]
    words: LocatedWords  # their characters are counted in the text
    word_numbers: NDArray[np.int64]  # [W]

    @classmethod
    def concat(cls, *parts: _Sentences) -> _Sentences:
        word_counts = np.concatenate([np.diff(part.words.word_offsets) for part in parts])
        return cls(
            np.concatenate([part.texts for part in parts]),
            np.concatenate([part.characters for part in parts]),
            LocatedWords(
                Ragged.concat([part.words.pieces for part in parts]),
                np.concatenate([part.words.characters for part in parts]),
                offsets_from_lengths(word_counts),
            ),
            np.concatenate([part.word_numbers for part in parts]),
        )


def _of_raw(texts: Mapping[int, str], word_pieces: WordPieces) -> _Sentences:
    places = {number: locate_sentences(text, word_pieces.language) for number, text in texts.items()}
    words = word_pieces.locate_words([texts[number][start:end] for number in places for start, end in places[number]])
    characters = np.array([place for of_text in places.values() for place in of_text], dtype=np.int64).reshape(-1, 2)
    first_characters = np.repeat(characters[:, 0], np.diff(words.word_offsets))
    return _Sentences(
        np.repeat(_numbers(places), _lengths(places)),
        characters,
        LocatedWords(words.pieces, words.characters + first_characters[:, None], words.word_offsets),
        np.arange(len(words.pieces)) - np.repeat(words.word_offsets[:-1], np.diff(words.word_offsets)),
    )


def _of_words(texts: Mapping[int, Sequence[str]], word_pieces: WordPieces) -> _Sentences:
    lengths = np.array([len(word) for text in texts.values() for word in text], dtype=np.int64)
    word_offsets = offsets_from_lengths(_lengths(texts))
    starts = offsets_from_lengths(lengths + 1)  # a space after each
    first_characters = starts[word_offsets]
    ends = np.maximum(np.diff(first_characters) - 1, 0)  # without the last space
    read = word_pieces.encode_given(list(texts.values()))
    words = read.numbers.values + word_offsets[read.numbers.row_index()]
    starts = starts[words] - first_characters[read.numbers.row_index()]
    return _Sentences(
        _numbers(texts),
        np.stack([np.zeros_like(ends), ends], axis=1),
        LocatedWords(read.pieces, np.stack([starts, starts + lengths[words]], axis=1), read.numbers.offsets),
        read.numbers.values,
    )


def _numbers(texts: Mapping[int, object]) -> NDArray[np.int64]:
    return np.fromiter(texts, dtype=np.int64, count=len(texts))


def _lengths(texts: Mapping[int, Sequence]) -> NDArray[np.int64]:
    return np.fromiter(map(len, texts.values()), dtype=np.int64, count=len(texts))


def readable(text: str) -> str:
    """The same number of characters, without what no encoding of text knows: halves of surrogate pairs."""
    return text if text.isascii() else _HALF_OF_A_PAIR.sub("\ufffd", text)
