"""The headings of sections in text that WikiExtractor wrote: "Early life." above what is told of it.

It writes the headings of sections that hold text, each on a line of its own, and adds a full stop.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.document import DocumentSentences

_MOST_WORDS = 5  # of six words, half are sentences: "In 2007, 2386 people lived there."
_ENDS = (".", "!", "?")
_TO_NEXT_LINE = re.compile(r"[^\S\n]*\n\s*\S")


def find_headings(sentences: DocumentSentences) -> NDArray[np.bool_]:
    """Which sentences are headings: short ones that fill a line, with another line after them, [S]."""
    found = np.zeros(len(sentences.texts), dtype=np.bool_)
    document_of = np.searchsorted(sentences.document_starts, sentences.starts, side="right") - 1
    for number, text in enumerate(sentences.texts):
        if _may_be_heading(text):
            document = int(document_of[number])
            start = int(sentences.starts[number] - sentences.document_starts[document])
            found[number] = _fills_line(sentences.documents[document].text, start, start + len(text))
    return found


def _may_be_heading(sentence: str) -> bool:
    return sentence.endswith(_ENDS) and not sentence[0].islower() and len(sentence.split()) <= _MOST_WORDS


def _fills_line(text: str, start: int, end: int) -> bool:
    line_start = text.rfind("\n", 0, start) + 1
    return not text[line_start:start].strip() and _TO_NEXT_LINE.match(text, end) is not None
