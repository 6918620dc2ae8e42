"""Where candidates occur in texts: by whole words, whatever their case and accents, and whatever the tokenizer.

A word is a run of letters and digits (each by itself in Chinese, Japanese and Korean), or a mark.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from spe_dist.multi_choice.question import Question

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"\n|[{_CJK}]|[^\W{_CJK}]+|[^\w\s]")
_KNOWN_WORDS = 1 << 16


class Occurrence(NamedTuple):
    """A place where a phrase stands, half-open.

    Args:
        phrase: its number.
        start: first word of the text.
        end: word after the last.
    """

    phrase: int
    start: int
    end: int


def locate_words(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The words of a text as they are compared, and the characters of each, half-open; the end of a line is a word."""
    found = [(_compared(one.group()), one.span()) for one in _WORD.finditer(text)]
    kept = [(word, span) for word, span in found if word]
    return [word for word, _ in kept], [span for _, span in kept]


def find_phrases(words: Sequence[str], phrases: Sequence[Sequence[str]]) -> list[Occurrence]:
    """All occurrences of phrases in the order of their first words; those of one phrase do not overlap.

    Args:
        words: words of a text.
        phrases: words of each; one without words occurs nowhere.
    """
    beginning: dict[str, list[int]] = defaultdict(list)
    for number, phrase in enumerate(phrases):
        if phrase:
            beginning[phrase[0]].append(number)
    free = [0] * len(phrases)
    found = []
    for place, word in enumerate(words):
        for number in beginning.get(word, ()):
            end = place + len(phrases[number])
            if place >= free[number] and words[place:end] == phrases[number]:
                found.append(Occurrence(number, place, end))
                free[number] = end
    return found


def locate_candidates(question: Question) -> list[tuple[int, int, int]]:
    """Number, first character and character after the last of each occurrence of a candidate in `Question.text`."""
    words, characters = locate_words(question.text)
    found = find_phrases(words, [locate_words(candidate)[0] for candidate in question.candidates])
    return [(one.phrase, characters[one.start][0], characters[one.end - 1][1]) for one in found]


def nearest_mention(question: Question) -> str:
    """The candidate with the fewest words between an occurrence of it and one of the subject, the first of equal ones.

    Occurrences that share words with the subject do not count. Where the subject does not occur, it is the candidate
    that is mentioned first; where none is mentioned, the first of the list.
    """
    words, _ = locate_words(question.text)
    subject, *candidates = (locate_words(phrase)[0] for phrase in (question.subject, *question.candidates))
    subjects, found = find_phrases(words, [subject]), find_phrases(words, candidates)
    best, least = 0, len(words) + 1
    for one in found:
        gaps = [max(one.start - of.end, of.start - one.end) for of in subjects] or [one.start]
        if 0 <= (gap := min(gaps)) < least:
            best, least = one.phrase, gap
    return question.candidates[best]


@lru_cache(maxsize=_KNOWN_WORDS)
def _compared(word: str) -> str:
    """Without case and accents."""
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFD", word.casefold())
    return "".join(character for character in parts if unicodedata.category(character) != "Mn")
