"""Signs that offsets count something else than they are taken to count, found by trying.

Annotated entities begin and end with words. Where those of a text do not, its offsets are read in every other way in
which programs are known to count; a way in which they do is what a person is told. Nothing is decided here.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.document import Document
from data_shards.counted import counted
from data_shards.ragged import IntArray, offsets_from_lengths
from data_shards.shards.entity_words import words_of_characters
from data_shards.text.offset_units import OffsetUnit, characters_at, code_points, widths

_MOST = 0.9  # of the entities of a text begin and end with words if its offsets are read rightly
_TRIED = 1_000  # documents of an input that `try_documents` looks at
_JOINER = "\u200d"
_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")
_SCRIPTS = {  # whose words do not stand between spaces: code of a language → its characters
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "ko": re.compile(r"[\u1100-\u11ff\uac00-\ud7af]"),
    "th": re.compile(r"[\u0e00-\u0e7f]"),
    "zh": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]"),  # last: Japanese has them too
}


class _Way(NamedTuple):
    """A way to count offsets: what it is called, what to do about it, units of each character, what to add first."""

    cause: str
    remedy: str
    widths: Callable[[str], IntArray]
    shift: tuple[int, int] = (0, 0)

    def read(self, spans: IntArray, text: str) -> IntArray:
        """Characters of spans of offsets, [E, 2]; -1 where no character begins."""
        return characters_at(spans + np.array(self.shift), offsets_from_lengths(self.widths(text)))


def _two_for_newlines(text: str) -> IntArray:
    points = code_points(text)
    return 1 + ((points == ord("\n")) & (np.append(0, points[:-1]) != ord("\r")))


def _one_for_crlf(text: str) -> IntArray:
    points = code_points(text)
    return 1 - ((points == ord("\r")) & (np.append(points[1:], 0) == ord("\n")))


def _none_for_marks(text: str) -> IntArray:
    """Close to grapheme clusters: marks, skin tones and what a joiner joins belong to the character before them."""
    joins = [
        c == _JOINER or before == _JOINER or unicodedata.category(c)[0] == "M" or _SKIN_TONES[0] <= c <= _SKIN_TONES[1]
        for before, c in zip(" " + text, text, strict=False)
    ]
    return 1 - np.array(joins, dtype=np.int64)


def _unit(unit: OffsetUnit, cause: str) -> _Way:
    return _Way(cause, f"add --offsets {unit} if that is what they count", lambda text: widths(text, unit))


_LINE_ENDS = "give the texts the line ends that they had when the offsets were counted"
_UNITS: dict[OffsetUnit, _Way] = {
    "characters": _unit("characters", "counted in characters (Unicode code points)"),
    "utf16": _unit("utf16", "counted in UTF-16 units"),
    "bytes": _unit("bytes", "counted in bytes of UTF-8"),
}
_OTHERS = (
    _Way("counted with two characters for each line end (\\r\\n)", _LINE_ENDS, _two_for_newlines),
    _Way("counted with one character for each \\r\\n", _LINE_ENDS, _one_for_crlf),
    _Way("counted with a letter and its marks as one (grapheme clusters)", "export them as characters",
         _none_for_marks),
)  # fmt: skip


def _shifted(widths: Callable[[str], IntArray]) -> tuple[_Way, ...]:
    """Ways that read every text differently, so that other texts speak against them."""
    return (
        _Way("with ends that are inclusive", "add 1 to each end", widths, (0, 1)),
        _Way("counted from 1", "subtract 1 from each offset", widths, (-1, -1)),
        _Way("counted from 1 with ends that are inclusive", "subtract 1 from each start", widths, (-1, 0)),
    )


class OffsetTrial:
    """Looks at the entities of texts, one text after another.

    Args:
        unit: what the offsets are taken to count.
        language: whose rules cut the words.
    """

    def __init__(self, unit: OffsetUnit, language: str) -> None:
        self._unit, self._language = unit, language
        self._widths = _UNITS[unit].widths
        self._ways = (*(way for key, way in _UNITS.items() if key != unit), *_OTHERS)
        self._shifted = _shifted(self._widths)
        self._texts = self._odd = self._same_words = 0
        self._explained: Counter[str] = Counter()  # odd texts that a way makes right
        self._broken: Counter[str] = Counter()  # other texts that it would make wrong
        self._languages: Counter[str] = Counter()  # of widened entities
        self._example = ""

    def add(self, document: Document, where: str) -> None:
        """Look at a text.

        Args:
            document: with the characters of its mentions as they are taken to be; if given as words, it tells nothing.
            where: it stands in its file, such as "line 3".
        """
        if document.words is not None or not document.mentions:
            return
        text, (words, _) = document.text, document.locate_words(self._language)
        if not len(words):
            return
        spans = np.array(document.characters(), dtype=np.int64)
        self._texts += 1
        exact = _exact(spans, words)
        listed = spans if self._unit == "characters" else offsets_from_lengths(self._widths(text))[spans]
        fitting, others = self._readings(text, words, listed, spans)
        if exact.all():
            self._broken.update(others)
            return
        first, last = words_of_characters(words, spans)
        cut = _are_cut(spans, words, first, last)
        if 2 * cut.sum() > len(spans) or (fitting and exact.mean() < _MOST):
            self._odd += 1
            self._example = self._example or _example(text, words, spans[~exact][:1], where)
            shifted = {way.cause for way in self._shifted if _fits(way.read(listed, text), words)}
            self._explained.update(fitting | shifted)
        else:
            self._broken.update(others)
        self._note_widened(text, words, spans[cut], first[cut], last[cut])

    def explain(self, document: Document, listed: IntArray) -> str:
        """What an error about a text's offsets can add: the way to count that makes them right, if there is one.

        Args:
            document: the text.
            listed: offsets as the file has them, [E, 2].
        """
        text, (words, _) = document.text, document.locate_words(self._language)
        if len(words) and len(listed):
            for way in (*self._ways, *self._shifted):
                if _fits(way.read(listed, text), words):
                    return f"; {way.cause}, its entities begin and end with words: {way.remedy}"
        return ""

    def warnings(self, name: str) -> list[str]:
        """One line for each thing that is odd.

        Args:
            name: name of the file.
        """
        lines = []
        if self._odd:
            lines.append(
                f"warning: {name}: in {self._odd:,} of {self._texts:,} texts with entities, entities begin or end "
                f"inside words and are widened to whole words, {self._example}; {self._cause()}"
            )
        if self._same_words:
            remedy = "" if self._odd else f": {self._language_hint() or 'check their offsets, and --language'}"
            lines.append(
                f"warning: {name}: {counted(self._same_words, 'entity')} widened to the same words as another one, so "
                f"that they cannot be told apart{remedy}"
            )
        return lines

    def _readings(self, text: str, words: IntArray, listed: IntArray, spans: IntArray) -> tuple[set[str], set[str]]:
        """The ways that read the offsets differently: those that make them begin and end with words, and the rest."""
        if text.isascii() and "\n" not in text:
            return set(), set()
        readings = {way.cause: way.read(listed, text) for way in self._ways}
        differing = {cause for cause, read in readings.items() if not np.array_equal(read, spans)}
        fitting = {cause for cause in differing if _fits(readings[cause], words)}
        return fitting, differing - fitting

    def _cause(self) -> str:
        if hint := self._language_hint():
            return hint
        for way in (*self._ways, *self._shifted):
            explained = self._explained[way.cause]
            against = self._texts - self._odd if way in self._shifted else self._broken[way.cause]
            if explained <= self._odd / 2 or against >= explained:
                continue
            found = f"{way.cause}, entities of {explained:,} of these texts begin and end with words: "
            if against:
                others = counted(against, "other text")
                return f"{found}but as they are, so do those of {others}, so separate the two kinds first"
            return found + way.remedy
        return "no other unit of offsets explains this: check some of them"

    def _note_widened(self, text: str, words: IntArray, spans: IntArray, first: IntArray, last: IntArray) -> None:
        spans_of_words: dict[tuple[int, int], set[tuple[int, ...]]] = {}
        for span, a, b in zip(spans.tolist(), first.tolist(), last.tolist(), strict=True):
            if a < b:
                spans_of_words.setdefault((a, b), set()).add(tuple(span))
        for (a, b), found in spans_of_words.items():
            self._same_words += len(found) if len(found) > 1 else 0
            run = text[words[a, 0] : words[b - 1, 1]]
            self._languages[next((code for code, script in _SCRIPTS.items() if script.search(run)), "")] += len(found)

    def _language_hint(self) -> str:
        code, count = max(self._languages.items(), key=lambda item: item[1], default=("", 0))
        if code in ("", self._language) or 2 * count <= self._languages.total():
            return ""
        return (
            f"the rules of --language {self._language} do not find words in this script: add --language {code} "
            f"(spe finetune: --start.language {code})"
        )


def try_documents(documents: Iterable[Document], unit: OffsetUnit, language: str, name: str) -> list[str]:
    """The warnings about the first documents that list entities by characters.

    Args:
        documents: documents of an input.
        unit: what the offsets are taken to count.
        language: whose rules cut sentences and words.
        name: name of the input.
    """
    trial = OffsetTrial(unit, language)
    listing = (document for document in documents if document.mentions and document.words is None)
    for document in islice(listing, _TRIED):
        trial.add(document, name)
    return trial.warnings(name)


def _exact(spans: IntArray, words: IntArray) -> NDArray[np.bool_]:
    """Which spans begin where a word begins and end where one ends, [E]."""
    return np.isin(spans[:, 0], words[:, 0]) & np.isin(spans[:, 1], words[:, 1]) & (spans[:, 0] < spans[:, 1])


def _fits(spans: IntArray, words: IntArray) -> bool:
    return bool(_exact(spans, words).mean() >= _MOST)


def _are_cut(spans: IntArray, words: IntArray, first: IntArray, last: IntArray) -> NDArray[np.bool_]:
    """Which spans begin or end inside a word or have none, [E]."""
    begin, end = words[first.clip(max=len(words) - 1), 0], words[last - 1, 1]
    return (first == last) | (begin < spans[:, 0]) | (end > spans[:, 1])


def _example(text: str, words: IntArray, span: IntArray, where: str) -> str:
    (first,), (last,) = words_of_characters(words, span)
    own = text[span[0, 0] : span[0, 1]]
    became = text[words[first, 0] : words[last - 1, 1]] if first < last else ""
    return f"such as {own[:40]!r} in {where}, which becomes {became[:40]!r}"
