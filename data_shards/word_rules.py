"""Sentences → words: spaCy's rules for a language (no model), which look at one chunk at a time.

A chunk is a run of characters between white space; a longer one than `_LONGEST_CHUNK` is cut there: it is no word, and
the rules take time that grows with its square.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from data_shards.errors import UserError

_LONGEST_CHUNK = 256  # characters
_CHUNK = re.compile(rf"\S{{1,{_LONGEST_CHUNK}}}")


class WordRules:
    """The rules of one language.

    Args:
        language: a spaCy language code.
    """

    def __init__(self, language: str) -> None:
        self._language = language
        self._tokenizer: Any = None  # loaded when first used
        self._known: dict[str, list[str]] = {}  # for `locate_words`; others have a table of their own

    def words_of_chunk(self, chunk: str) -> list[str]:
        """The words of a chunk; together they are the chunk.

        Raises:
            UserError: there are no rules for the language.
        """
        if self._tokenizer is None:
            self._tokenizer = _load_tokenizer(self._language)
        return [token.text for token in self._tokenizer(chunk)]

    def locate_words(self, text: str) -> Iterator[tuple[int, int]]:
        """The characters of each word of a text, half-open."""
        for start, chunk in locate_chunks(text):
            if chunk not in self._known:
                self._known[chunk] = self.words_of_chunk(chunk)
            for word in self._known[chunk]:
                yield start, start + len(word)
                start += len(word)

    def forget(self) -> None:
        """Give back the memory of the words seen so far."""
        self._tokenizer, self._known = None, {}


def chunks_of(text: str) -> list[str]:
    """The chunks of a text."""
    return _CHUNK.findall(text)


def locate_chunks(text: str) -> list[tuple[int, str]]:
    """The chunks of a text, each with the place of its first character."""
    return [(found.start(), found.group()) for found in _CHUNK.finditer(text)]


def _load_tokenizer(language: str) -> Any:
    import spacy  # reading shards needs no spaCy

    try:
        rules = spacy.blank(language)
    except ImportError as error:
        raise UserError(f"no word rules for language {language!r}: use a code that spaCy knows, such as en") from error
    rules.vocab.lex_attr_getters = {}  # shapes, prefixes and the like of every new word: most of the time, for nothing
    rules.tokenizer.max_cache_size = 0  # the table of chunks is the cache; without spaCy's, history cannot matter
    return rules.tokenizer
