"""Words → pieces, the one place: building shards and predicting must cut text in the same way.

Words come from spaCy's rules (no model). A unit of text is handled as flat arrays: every distinct word is looked up and
cut into pieces once, and the unit is then gathered from those.
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
from data_shards.ragged import Ragged
from data_shards.record import Records
from data_shards.tokenizer_files import SpecialIds, TokenizerFiles, load_tokenizer_files

_SENTENCES_PER_CALL = 1000  # spaCy's cost per call is that of a short sentence
_MAX_KNOWN_WORDS = 2_000_000  # distinct words remembered before a long-lived worker starts anew

_NO_PIECES = Ragged.from_lengths(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


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
        self._spacy: Any = None
        self._known: dict[int, int] = {}
        self._pieces = _NO_PIECES

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
        """The words of a text, white space left out."""
        return [token.text for token in self._rules.tokenizer(text) if not token.is_space]

    def encode_words(self, words: Sequence[str]) -> Ragged:
        """Piece ids of each word, without special pieces, [words].

        A row is empty where a word is white space or nothing but control characters.
        """
        encodings = self._tokenizer.encode_batch(
            [[word] for word in words], is_pretokenized=True, add_special_tokens=False
        )
        rows = [[] if word.isspace() else encoding.ids for word, encoding in zip(words, encodings, strict=True)]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        values = np.fromiter((piece for row in rows for piece in row), dtype=np.int64, count=int(lengths.sum()))
        return Ragged.from_lengths(values, lengths)

    def encode_sentences(self, sentences: Sequence[str]) -> Records:
        """One record per sentence. Words without pieces are dropped, so word starts are strictly increasing.

        Args:
            sentences: stripped, not empty, and without newlines.
        """
        if len(self._known) > _MAX_KNOWN_WORDS:
            self._forget_words()
        hashes, sentence_of_word = self._word_hashes(sentences)
        distinct, position = np.unique(hashes, return_inverse=True)
        rows = self._rows_of_words(distinct)[position]
        kept = self._pieces.lengths[rows] > 0
        pieces = self._pieces.take(rows[kept])
        return _records_of_words(pieces, sentence_of_word[kept], len(sentences))

    def _word_hashes(self, sentences: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hash and sentence of every token. Many sentences go through spaCy at once, told apart by newline tokens."""
        from spacy.attrs import ORTH

        tokenize, newline = self._rules.tokenizer, self._rules.vocab.strings.add("\n")
        parts = [np.zeros(0, dtype=np.uint64)]
        for start in range(0, len(sentences), _SENTENCES_PER_CALL):
            text = "\n".join(sentences[start : start + _SENTENCES_PER_CALL]) + "\n"
            parts.append(tokenize(text).to_array(ORTH))
        hashes = np.concatenate(parts)
        is_newline = hashes == newline
        if int(is_newline.sum()) != len(sentences):
            raise ValueError("sentences must be stripped, not empty, and without newlines")
        return hashes[~is_newline], np.cumsum(is_newline)[~is_newline]

    def _rows_of_words(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Rows in the table of pieces, one per distinct word; new words are added to the table."""
        keys = hashes.tolist()
        new = [key for key in keys if key not in self._known]
        if new:
            strings = self._rules.vocab.strings
            self._known |= {key: row for row, key in enumerate(new, start=len(self._known))}
            self._pieces = Ragged.concat([self._pieces, self.encode_words([strings[key] for key in new])])
        return np.fromiter((self._known[key] for key in keys), dtype=np.int64, count=len(keys))

    def _forget_words(self) -> None:
        self._spacy, self._known, self._pieces = None, {}, _NO_PIECES

    @property
    def _rules(self) -> Any:
        if self._spacy is None:
            self._spacy = _load_word_rules(self.language)
        return self._spacy


def _load_word_rules(language: str) -> Any:
    import spacy  # reading shards needs no spaCy

    try:
        return spacy.blank(language)
    except ImportError as error:
        raise UserError(
            f"no word rules for language {language!r}: use a spaCy language code such as en or de"
        ) from error


def _records_of_words(pieces: Ragged, sentence_of_word: NDArray[np.int64], sentences: int) -> Records:
    word_counts = np.bincount(sentence_of_word, minlength=sentences)
    first_words = np.cumsum(word_counts) - word_counts
    piece_boundaries = pieces.offsets[np.append(first_words, len(pieces))]
    starts = pieces.offsets[:-1] - piece_boundaries[sentence_of_word]
    return Records(Ragged(pieces.values, piece_boundaries), Ragged.from_lengths(starts, word_counts))
