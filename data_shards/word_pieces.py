"""Words → pieces, the one place: building shards and predicting must cut text in the same way.

Words come from spaCy's rules (no model), which look at one chunk at a time: a run of characters between white space. So
every distinct chunk is cut into words and pieces once, and text is then gathered from a table of chunks as flat arrays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_shards.errors import UserError
from data_shards.files import sha256_of, write_atomically
from data_shards.ragged import Ragged, offsets_from_lengths
from data_shards.record import Records
from data_shards.tokenizer_files import SpecialIds, TokenizerFiles, load_tokenizer_files

_MAX_KNOWN_CHUNKS = 1_000_000  # a worker that lives long forgets what it knows then, or its memory would grow for ever
_NO_ROWS = Ragged.from_lengths(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
_NOTHING = Records(_NO_ROWS, _NO_ROWS)


class WordPieces:
    """Cuts text into words and words into pieces.

    Args:
        files: the tokenizer.
        language: whose rules tell words apart (a spaCy language code).
    """

    def __init__(self, files: TokenizerFiles, *, language: str = "en") -> None:
        self.files = files
        self.language = language
        self.special_ids: SpecialIds = files.special_ids
        self._tokenizer = Tokenizer.from_str(files.tokenizer_json)
        # "[SEP]" in the text of a document is text, not the end of a sentence.
        self._tokenizer.encode_special_tokens = True
        self.vocab_size: int = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self._rules: Any = None
        self._rows: dict[str, int] = {}
        self._table = _NOTHING

    @classmethod
    def load(cls, source: str, *, language: str = "en", lowercase: bool | None = None) -> WordPieces:
        """From a tokenizer folder, a vocabulary file or a hub name; see `load_tokenizer_files`."""
        return cls(load_tokenizer_files(source, lowercase=lowercase), language=language)

    @property
    def lowercase(self) -> bool | None:
        """Whether text is lower-cased; None if the tokenizer does not say so in the usual place."""
        normalizer = json.loads(self.files.tokenizer_json).get("normalizer") or {}
        return normalizer.get("lowercase")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides a word's pieces: the {piece: id} mapping, normalizer and pre-tokenizer."""
        document = json.loads(self.files.tokenizer_json)
        parts = {
            "vocabulary": self._tokenizer.get_vocab(with_added_tokens=True),
            "normalizer": document.get("normalizer"),
            "pre_tokenizer": document.get("pre_tokenizer"),
        }
        return sha256_of(json.dumps(parts, sort_keys=True).encode())

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as `AutoTokenizer.from_pretrained` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "tokenizer.json", self.files.tokenizer_json.encode())
        write_atomically(folder / "tokenizer_config.json", self.files.config_json.encode())

    def words(self, text: str) -> list[str]:
        """The words of a text: spaCy's rules, applied to each run of characters between white space."""
        return [word for chunk in text.split() for word in self._words_of_chunk(chunk)]

    def encode_words(self, words: Sequence[str]) -> Ragged:
        """Piece ids of each word, without special pieces, [words].

        A row is empty where a word is white space or nothing but control characters.
        """
        encodings = self._tokenizer.encode_batch_fast(
            [[word] for word in words], is_pretokenized=True, add_special_tokens=False
        )
        rows = [[] if word.isspace() else encoding.ids for word, encoding in zip(words, encodings, strict=True)]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        values = np.fromiter((piece for row in rows for piece in row), dtype=np.int64, count=int(lengths.sum()))
        return Ragged.from_lengths(values, lengths)

    def encode_sentences(self, sentences: Sequence[str]) -> Records:
        """One record per sentence. Words without pieces are dropped, so word starts are strictly increasing."""
        if len(self._rows) > _MAX_KNOWN_CHUNKS:
            self._forget_chunks()
        chunks = [sentence.split() for sentence in sentences]
        self._learn({chunk for sentence in chunks for chunk in sentence})
        rows = np.fromiter((self._rows[chunk] for sentence in chunks for chunk in sentence), dtype=np.int64)
        chunk_counts = np.fromiter(map(len, chunks), dtype=np.int64, count=len(chunks))
        return _join_chunks(self._table.take(rows), chunk_counts)

    def _learn(self, chunks: set[str]) -> None:
        """Add chunks that are new to the table."""
        new = sorted(chunks - self._rows.keys())
        words = [self._words_of_chunk(chunk) for chunk in new]
        word_counts = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        pieces = self.encode_words([word for chunk in words for word in chunk])
        chunk_of_word = np.repeat(np.arange(len(new)), word_counts)
        self._rows |= {chunk: row for row, chunk in enumerate(new, start=len(self._rows))}
        self._table = Records.concat([self._table, _records_of_words(pieces, chunk_of_word, len(new))])

    def _words_of_chunk(self, chunk: str) -> list[str]:
        if self._rules is None:
            self._rules = _load_word_rules(self.language)
        return [token.text for token in self._rules(chunk)]

    def _forget_chunks(self) -> None:
        self._rules, self._rows, self._table = None, {}, _NOTHING


def _load_word_rules(language: str) -> Any:
    import spacy  # reading shards needs no spaCy

    try:
        rules = spacy.blank(language)
    except ImportError as error:
        raise UserError(f"no word rules for language {language!r}: use a code that spaCy knows, such as en") from error
    rules.vocab.lex_attr_getters = {}  # shapes, prefixes and the like of every new word: most of the time, for nothing
    rules.tokenizer.max_cache_size = 0  # the table of chunks is the cache; without spaCy's, history cannot matter
    return rules.tokenizer


def _records_of_words(pieces: Ragged, record_of_word: NDArray[np.int64], records: int) -> Records:
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
