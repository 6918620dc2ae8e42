"""Documents → sentences: sentencex, with two things around it.

- Behind the marker of a list item (•, (2), b), iv.) sentencex leaves everything up to the next marker, or to the end of
  the paragraph, as one sentence. It is split once more there.
- A paragraph is read through a window. In a text without newlines one quotation mark too many would turn all quotes
  after it inside out, and the time that sentencex takes grows with the square of the length in some languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_WINDOW = 4096  # characters: more than all but the longest paragraphs, which are split as sentencex splits them
_ENOUGH = _WINDOW // 2  # the rest shows what is still to come: an end of the quote or the list
_LIST_MARKERS = re.compile(
    r"(?:(?:[-*+·•‣\u2013\u2014\u2043\u204c\u204d\u25a0-\u25ff\u2600-\u27bf]"  # dashes, bullets such as ◦ ■ ★ ➤
    r"|\(?(?:\d{1,3}|[A-Za-z]|[IVXLCDMivxlcdm]{2,6})(?:\)|\.\)?))"
    r"\s+)+"
)
_SPACE = re.compile(r"\s")
_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")  # of several bytes


def split_sentences(document: str, language: str = "en") -> list[str]:
    """Sentences of a document whose paragraphs are separated by newlines; no sentence holds a newline or is empty."""
    return [document[start:end] for start, end in locate_sentences(document, language)]


def locate_sentences(document: str, language: str = "en") -> list[tuple[int, int]]:
    """The characters of each sentence, half-open, without white space around it; see `split_sentences`."""
    places, paragraph_start = [], 0
    for paragraph in document.split("\n"):
        start = 0
        for end in _ends_in_paragraph(paragraph, language):
            part = paragraph[start:end]
            if sentence := part.strip():
                first = paragraph_start + start + len(part) - len(part.lstrip())
                places.append((first, first + len(sentence)))
            start = end
        paragraph_start += len(paragraph) + 1
    return places


def _ends_in_paragraph(paragraph: str, language: str) -> Iterator[int]:
    """Where sentences end, ascending; the last one with the paragraph."""
    start = 0
    while start + _WINDOW < len(paragraph):
        window = paragraph[start : start + _WINDOW]
        ends = [start + end for end in _ends(window, language) if end <= _ENOUGH]
        yield from ends
        # A sentence as long as this goes on, and so does the search for its end.
        start = ends[-1] if ends else start + _space_after(window, _ENOUGH)
    yield from (start + end for end in _ends(paragraph[start:], language))


def _ends(text: str, language: str) -> Iterator[int]:
    for found in _boundaries(text, language):
        start, end = found["start_index"], found["end_index"]
        marker = _LIST_MARKERS.match(text, start, end)
        if marker and marker.end() < end:
            yield from (marker.end() + inside for inside in _ends(text[marker.end() : end], language))
        else:
            yield end


def _boundaries(text: str, language: str) -> list[dict[str, Any]]:
    import sentencex  # reading shards needs no splitter

    try:
        return sentencex.get_sentence_boundaries(language, text)
    except BaseException as error:  # what a panic in Rust becomes is no Exception
        if type(error).__name__ != "PanicException":
            raise
        # It cuts some runs of spaces of several bytes inside a character; plain spaces are as many characters.
        return sentencex.get_sentence_boundaries(language, _WIDE_SPACE.sub(" ", text))


def _space_after(text: str, place: int) -> int:
    """Behind the first white space from a place on, or the place if there is none."""
    space = _SPACE.search(text, place)
    return space.end() if space else place
