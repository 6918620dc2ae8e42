"""Words → pieces, the one place: shards, fine-tuning, scores and prediction must read text in the same way.

Words come from rules that look at one chunk at a time (`word_rules`). So every distinct chunk is cut into words and
pieces once, and text is then gathered from a table of chunks as flat arrays.

A word without pieces (control and format characters such as U+200B, of which most tokenizers make nothing) is passed
over: it is no word of a record, whether text is cut into words here or given as words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_shards.files import sha256_of, write_atomically
from data_shards.ragged import IntArray, Ragged, concat_ranges, offsets_from_lengths
from data_shards.shards.record import Records
from data_shards.text.word_rules import WordRules, chunks_of, locate_chunks
from data_shards.tokenizer.files import SpecialIds, TokenizerFiles, load_tokenizer_files
from data_shards.tokenizer.folder import SETTINGS, TOKENIZER_JSON

MAX_KNOWN_CHUNKS = 1_000_000
_NOTHING = Records.empty()
_NO_PLACES = Ragged.from_lengths(np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class LocatedWords:
    """W words of S sentences, one sentence after another."""

    pieces: Ragged  # ids of each word's pieces, at least one, [W]
    characters: NDArray[np.int64]  # [W, 2] of each word in its sentence, half-open
    word_offsets: NDArray[np.int64]  # [S + 1]

    def words(self, sentences: Sequence[str], chosen: IntArray) -> list[list[str]]:
        """The words of some sentences as text.

        Args:
            sentences: the text of all S sentences.
            chosen: numbers of those that are asked for.
        """
        first = self.word_offsets[chosen]
        lengths = self.word_offsets[chosen + 1] - first
        starts, ends = self.characters[concat_ranges(first, lengths)].T
        places = zip(
            starts.tolist(), ends.tolist(), strict=True
        )  # flat: a list for each word takes as long as the rest
        return [
            [text[start:end] for start, end in islice(places, length)]
            for text, length in zip((sentences[number] for number in chosen.tolist()), lengths.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class GivenWords:
    """The W words that have pieces, of S sentences that were given as words, one sentence after another."""

    pieces: Ragged  # ids of each word's pieces, at least one, [W]
    numbers: Ragged  # of each word among the given ones of its sentence, [S]


class WordPieces:
    """Cuts text into words and words into pieces.

    Args:
        files: the tokenizer.
        language: whose rules tell words apart (a spaCy language code).
        max_known_chunks: when it knows more, it forgets them all, or the memory of what lives long would grow for ever.
    """

    def __init__(
        self, files: TokenizerFiles, *, language: str = "en", max_known_chunks: int = MAX_KNOWN_CHUNKS
    ) -> None:
        self.files = files
        self.language = language
        self.max_known_chunks = max_known_chunks
        self.special_ids: SpecialIds = files.special_ids
        self._tokenizer = Tokenizer.from_str(files.tokenizer_json)
        # "[SEP]" in the text of a document is text, not the end of a sentence.
        self._tokenizer.encode_special_tokens = True
        self.vocab_size: int = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self._rules = WordRules(language)
        self._rows: dict[str, int] = {}
        self._table = _NOTHING  # of each chunk, words without pieces left out
        self._places = _NO_PLACES  # rows (start, end) of the same words: their characters in the chunk

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """Pickled without its tables; and a tokenizer alone would come back without `encode_special_tokens`."""
        again = partial(WordPieces, self.files, language=self.language, max_known_chunks=self.max_known_chunks)
        return again, ()

    @classmethod
    def load(
        cls,
        source: str,
        *,
        language: str = "en",
        lowercase: bool | None = None,
        max_known_chunks: int = MAX_KNOWN_CHUNKS,
    ) -> WordPieces:
        """From a tokenizer folder, a vocabulary file or a hub name; see `load_tokenizer_files`."""
        files = load_tokenizer_files(source, lowercase=lowercase)
        return cls(files, language=language, max_known_chunks=max_known_chunks)

    @property
    def lowercase(self) -> bool | None:
        """Whether text is lower-cased; None if the tokenizer does not say so in the usual place."""
        normalizer = json.loads(self.files.tokenizer_json).get("normalizer") or {}
        return normalizer.get("lowercase")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides a word's pieces: the {piece: id} mapping, normalizer, pre-tokenizer, merges."""
        document = json.loads(self.files.tokenizer_json)
        parts = {
            "vocabulary": self._tokenizer.get_vocab(with_added_tokens=True),
            "normalizer": document.get("normalizer"),
            "pre_tokenizer": document.get("pre_tokenizer"),
        }
        if merges := document["model"].get("merges"):
            parts["merges"] = merges
        if words := [token for token in document["added_tokens"] if not token["special"]]:
            parts["added_words"] = words
        return sha256_of(json.dumps(parts, sort_keys=True).encode())

    def save(self, folder: Path, *, max_pieces: int | None = None, token_types: bool = True) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as `AutoTokenizer.from_pretrained` reads them.

        Args:
            folder: to write to.
            max_pieces: of the encoder beside it, if there is one; see `TokenizerFiles.config_json`.
            token_types: token types of the encoder beside it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        config = self.files.config_json(max_pieces=max_pieces, token_types=token_types)
        write_atomically(folder / TOKENIZER_JSON, self.files.tokenizer_json.encode())
        write_atomically(folder / SETTINGS, config.encode())

    def words(self, text: str) -> list[str]:
        """The words of a text: spaCy's rules, applied to each run of characters between white space."""
        return [word for chunk in chunks_of(text) for word in self._rules.words_of_chunk(chunk)]

    def encode_words(self, words: Sequence[str]) -> Ragged:
        """Piece ids of each word, without special pieces, [words].

        A row is empty where a word is white space, or holds nothing that the tokenizer keeps.
        """
        encodings = self._tokenizer.encode_batch_fast(
            [[word] for word in words], is_pretokenized=True, add_special_tokens=False
        )
        values: list[int] = []
        lengths = []
        for word, encoding in zip(words, encodings, strict=True):
            ids = [] if word.isspace() else encoding.ids
            values += ids
            lengths.append(len(ids))
        return Ragged.from_lengths(np.array(values, dtype=np.int64), np.array(lengths, dtype=np.int64))

    def encode_sentences(self, sentences: Sequence[str]) -> Records:
        """One record per sentence. Words without pieces are dropped, so word starts are strictly increasing."""
        chunks = [chunks_of(sentence) for sentence in sentences]
        rows = self._rows_of([chunk for sentence in chunks for chunk in sentence])
        return _join_chunks(self._table.take(rows), _lengths(chunks))

    def encode_given(self, sentences: Sequence[Sequence[str]]) -> GivenWords:
        """The pieces of sentences that are words already."""
        pieces = self.encode_words([word for sentence in sentences for word in sentence])
        lengths = _lengths(sentences)
        numbers = concat_ranges(np.zeros_like(lengths), lengths)
        kept = np.flatnonzero(pieces.lengths)
        offsets = np.searchsorted(kept, offsets_from_lengths(lengths))
        return GivenWords(pieces.take(kept), Ragged(numbers[kept], offsets))

    def locate_words(self, sentences: Sequence[str]) -> LocatedWords:
        """The same words as `encode_sentences` finds, each with its pieces and its characters."""
        starts: list[int] = []  # flat, as below: the garbage collector goes through lists of lists and of tuples
        chunks: list[str] = []
        counts = []
        for sentence in sentences:
            located = locate_chunks(sentence)
            starts += [start for start, _ in located]
            chunks += [chunk for _, chunk in located]
            counts.append(len(located))
        rows = self._rows_of(chunks)
        records, places = self._table.take(rows), self._places.take(rows)
        chunk_starts = np.array(starts, dtype=np.int64)
        return LocatedWords(
            pieces=Ragged(records.pieces.values, records.word_bounds),
            characters=places.values + chunk_starts[places.row_index(), None],
            word_offsets=places.offsets[offsets_from_lengths(np.array(counts, dtype=np.int64))],
        )

    def _rows_of(self, chunks: Sequence[str]) -> NDArray[np.int64]:
        """Rows of the table of chunks; those that are new to it are added."""
        if len(self._rows) > self.max_known_chunks:
            self._forget_chunks()
        self._learn(set(chunks))
        return np.fromiter(map(self._rows.__getitem__, chunks), dtype=np.int64, count=len(chunks))

    def _learn(self, chunks: set[str]) -> None:
        new = sorted(chunks - self._rows.keys())
        if not new:
            return
        words = [self._rules.words_of_chunk(chunk) for chunk in new]
        word_counts = _lengths(words)
        pieces = self.encode_words([word for chunk in words for word in chunk])
        chunk_of_word = np.repeat(np.arange(len(new)), word_counts)
        records = records_of_words(pieces, chunk_of_word, len(new))
        places = _places_of_words(words)[pieces.lengths > 0]
        self._rows |= {chunk: row for row, chunk in enumerate(new, start=len(self._rows))}
        self._table = Records.concat([self._table, records])
        self._places = Ragged.concat([self._places, Ragged(places, records.word_starts.offsets)])

    def _forget_chunks(self) -> None:
        self._rules.forget()
        self._rows, self._table, self._places = {}, _NOTHING, _NO_PLACES


def _lengths(rows: Sequence[Sequence]) -> NDArray[np.int64]:
    return np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))


def _places_of_words(words_of_chunks: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Characters of all words, each counted from the beginning of its chunk, [words, 2]; the rules lose none."""
    lengths = np.array([len(word) for words in words_of_chunks for word in words], dtype=np.int64)
    ends = np.cumsum(lengths)
    offsets = offsets_from_lengths(_lengths(words_of_chunks))
    chunk_starts = np.repeat(offsets_from_lengths(lengths)[offsets[:-1]], np.diff(offsets))
    return np.stack([ends - lengths - chunk_starts, ends - chunk_starts], axis=1)


def records_of_words(pieces: Ragged, record_of_word: NDArray[np.int64], records: int) -> Records:
    """Records from the pieces of each word and the number of the record it belongs to; words without pieces go."""
    kept = np.flatnonzero(pieces.lengths > 0)
    record_of_word, pieces = record_of_word[kept], pieces.take(kept)
    word_counts = np.bincount(record_of_word, minlength=records)
    piece_boundaries = pieces.offsets[offsets_from_lengths(word_counts)]
    starts = pieces.offsets[:-1] - piece_boundaries[record_of_word]
    return Records(Ragged(pieces.values, piece_boundaries), Ragged.from_lengths(starts, word_counts))


def _join_chunks(chunks: Records, chunk_counts: NDArray[np.int64]) -> Records:
    """One record from each run of `chunk_counts` records, word starts counted from the new record's first piece."""
    boundaries = offsets_from_lengths(chunk_counts)
    piece_offsets = chunks.pieces.offsets[boundaries]
    first_piece = chunks.pieces.offsets[:-1] - np.repeat(piece_offsets[:-1], chunk_counts)
    starts = chunks.word_starts.values + np.repeat(first_piece, chunks.word_starts.lengths)
    return Records(Ragged(chunks.pieces.values, piece_offsets), Ragged(starts, chunks.word_starts.offsets[boundaries]))
