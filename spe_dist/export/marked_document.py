"""Documents with marked entities, as people write them, → pieces and those of every mention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_shards.errors import UserError
from data_shards.ragged import Ragged
from data_shards.text.word_pieces import WordPieces
from spe_dist.documents.pooled_vectors import PooledText
from spe_dist.export.marked_text import MarkedText, Span, WordSpan

Mention = Span | tuple[int, int, int]
"""A mention: in a text, a span; in sentences of words (sentence, first word, word after the last), counted from 0."""
DocumentText = str | Sequence[Sequence[str]]
"""A text, or sentences of words."""


def pooled_spans(pieces: Ragged, spans: Sequence[Sequence[WordSpan]]) -> PooledText:
    """A text whose vectors are means over spans of words.

    Args:
        pieces: pieces of each word.
        spans: spans of each vector, half-open, one or more.
    """
    rows = {(vector, *pieces.offsets[list(span)]) for vector, mentions in enumerate(spans) for span in mentions}
    return PooledText(pieces.values, np.array(sorted(rows), dtype=np.int64).reshape(-1, 3), len(spans))


def pooled_document(
    document: DocumentText, entities: Sequence[Sequence[Mention]], word_pieces: WordPieces, *, where: str
) -> PooledText:
    """A document whose vectors are those of its entities; a mention that is listed twice counts once.

    Args:
        document: document of any length.
        entities: each the list of its mentions.
        word_pieces: cuts it.
        where: it stands, for messages.

    Raises:
        UserError: an entity has no mention, or a mention is not one.
    """
    spans = []
    if isinstance(document, str):
        marked = MarkedText.of(document, word_pieces)
        pieces = marked.pieces
    else:
        if any(isinstance(words, str) for words in document):
            raise UserError(f"{where}: give a text, or a list of sentences that are lists of words")
        given = word_pieces.encode_given(document)
        pieces = given.pieces
    for number, mentions in enumerate(entities):
        if isinstance(mentions, str) or not len(mentions) or any(isinstance(one, int) for one in mentions):
            raise UserError(f"{where}: entity {number} must be a list of one or more mentions, and is {mentions!r}")
        if isinstance(document, str):
            spans.append([marked.word_span(_span(one, where)) for one in mentions])
        else:
            spans.append([_words(document, given.numbers, one, where) for one in mentions])
    return pooled_spans(pieces, spans)


def _span(mention: Mention, where: str) -> Span:
    if not isinstance(mention, str) and len(mention) != 2:
        raise UserError(f"{where}: mention {mention!r} of a text: give its words, or its characters (start, end)")
    return mention


def _words(document: Sequence[Sequence[str]], numbers: Ragged, mention: Mention, where: str) -> WordSpan:
    """The words that have pieces, counted over the document."""
    if isinstance(mention, str) or len(mention) != 3:
        raise UserError(
            f"{where}: mention {mention!r} of sentences of words: give (sentence, first word, word after the last)"
        )
    sentence, start, end = mention
    if not (0 <= sentence < len(document) and 0 <= start < end <= len(document[sentence])):
        raise UserError(
            f"{where}: mention {mention!r} is not inside the document: sentences and words are counted from 0, and the "
            "end is exclusive"
        )
    first, last = (numbers.offsets[sentence] + np.searchsorted(numbers.row(sentence), (start, end))).tolist()
    if first == last:
        raise UserError(f"{where}: mention {mention!r}: its words have no pieces, so there is nothing to encode")
    return first, last
