"""Pieces of a document with a marker before and after every mention, such as the `*` of ATLOP."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_shards.ragged import IntArray
from spe_dist.documents.document_pieces import DocumentPieces


def with_markers(document: DocumentPieces, marker: IntArray) -> DocumentPieces:
    """The same document; its mentions begin with the marker before them, and end with the one after them.

    Mentions that begin, or end, at the same piece share the marker there.

    Args:
        document: without markers.
        marker: its pieces; none leave the document as it is.
    """
    if not len(marker):
        return document
    starts, ends = (np.unique(document.mentions[:, column]) for column in (1, 2))
    at = np.concatenate([ends, starts])
    ids = np.insert(document.piece_ids, np.repeat(at, len(marker)), np.tile(marker, len(at)))
    # Between two pieces, markers that end mentions come before those that begin some.
    bounds = np.arange(len(document.piece_ids) + 1)
    before = np.searchsorted(ends, bounds, side="right") + np.searchsorted(starts, bounds, side="left")
    moved = bounds + len(marker) * before
    mentions = document.mentions.copy()
    mentions[:, 1:] = moved[mentions[:, 1:]]
    return replace(document, piece_ids=ids, mentions=mentions, sentence_starts=moved[document.sentence_starts])
