"""Pieces of a document with markers around mentions: the `*` of ATLOP, and those that ERICA is pre-trained with."""

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
        marker: its pieces.
    """
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


def with_numbered_markers(document: DocumentPieces, *, first_id: int, pairs: int) -> DocumentPieces:
    """The same document with [S_k] mention [E_k] for the mentions of entity k; a mention is its first marker alone.

    Args:
        document: without markers.
        first_id: first id of [S_0]; [E_0], [S_1], [E_1], … follow it.
        pairs: pairs of markers; entities beyond begin anew with the first.
    """
    entities, starts, ends = document.mentions.T
    count = len(entities)
    bounds = np.concatenate([starts, ends])
    others = np.concatenate([ends, starts])  # the longest mention begins first and ends last
    is_start = np.arange(2 * count) < count
    order = np.lexsort((-others, is_start, bounds))
    number = first_id + 2 * (entities % pairs)
    ids = np.concatenate([number, number + 1])
    place = np.empty(2 * count, dtype=np.int64)
    place[order] = bounds[order] + np.arange(2 * count)
    before = np.searchsorted(np.sort(starts), document.sentence_starts, side="left")
    before += np.searchsorted(np.sort(ends), document.sentence_starts, side="right")
    return replace(
        document,
        piece_ids=np.insert(document.piece_ids, bounds[order], ids[order]),
        mentions=np.column_stack([entities, place[:count], place[:count] + 1]),
        sentence_starts=document.sentence_starts + before,
    )
