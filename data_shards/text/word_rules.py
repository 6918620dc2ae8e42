"""Sentences → words: spaCy's rules for a language (no model), which look at one chunk at a time.

A chunk is a run of characters between white space; a longer one than `_LONGEST_CHUNK` is cut there: it is no word, and
the rules take time that grows with its square. Where the rules of a language make every character a word (Chinese), a
run of letters of an alphabet, or of digits, is one word all the same: Google, 1999.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from data_shards.errors import UserError

_LONGEST_CHUNK = 256  # characters
_CHUNK = re.compile(rf"\S{{1,{_LONGEST_CHUNK}}}")
# Latin, Greek, Cyrillic with their accents, and digits; also of full width.
_IN_ALPHABET = re.compile(
    r"[0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u052f\u1e00-\u1fff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]+"
)
_PACKAGES = {  # what spaCy needs for a language, as pip knows it
    "ja": "sudachipy sudachidict_core", "ko": "natto-py (which needs mecab-ko and mecab-ko-dic)", "th": "pythainlp",
    "vi": "pyvi",
}  # fmt: skip


class WordRules:
    """The rules of one language.

    Args:
        language: a spaCy language code.
    """

    def __init__(self, language: str) -> None:
        self._language = language
        self._tokenizer: Any = None  # loaded when first used
        self._characters_are_words = False
        self._known: dict[str, list[str]] = {}  # for `locate_words`; others have a table of their own

    def words_of_chunk(self, chunk: str) -> list[str]:
        """The words of a chunk; together they are the chunk.

        Raises:
            UserError: there are no rules for the language.
        """
        if self._tokenizer is None:
            self._tokenizer, spoken = _load_tokenizer(self._language)
            self._characters_are_words = spoken == "zh"
        words = [token.text for token in self._tokenizer(chunk)]
        return _join_runs(words) if self._characters_are_words else words

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


def _join_runs(words: list[str]) -> list[str]:
    """The same words; those that are parts of a run in an alphabet are put together."""
    joined: list[str] = []
    in_run = False
    for word in words:
        before, in_run = in_run, _IN_ALPHABET.fullmatch(word) is not None
        if before and in_run:
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _matching_language(language: str) -> str:
    """The code by which spaCy knows a language."""
    import spacy

    try:
        return spacy.util.find_matching_language(language) or language
    except ValueError:  # no code of a language, to some releases of spaCy
        return language


def _load_tokenizer(language: str) -> tuple[Any, str]:
    """The rules, and the language they are of: spaCy finds it by other codes as well."""
    try:
        import spacy  # reading shards needs no spaCy
    except ModuleNotFoundError as error:
        raise UserError(
            "spaCy is not installed, and its rules cut text, and names of relations, into words: pip install spacy"
        ) from error
    try:
        rules = spacy.blank(language)
    except (ImportError, AttributeError) as error:  # the latter if there is a module, but no language, of the name
        if packages := _PACKAGES.get(_matching_language(language)):
            raise UserError(
                f"the word rules of language {language!r} need a package: pip install {packages}"
            ) from error
        raise UserError(f"no word rules for language {language!r}: use a code that spaCy knows, such as en") from error
    rules.vocab.lex_attr_getters = {}  # shapes, prefixes and the like of every new word: most of the time, for nothing
    rules.tokenizer.max_cache_size = 0  # the table of chunks is the cache; without spaCy's, history cannot matter
    return rules.tokenizer, rules.lang
