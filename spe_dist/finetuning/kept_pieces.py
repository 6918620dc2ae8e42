"""Which pieces of a long text an encoder reads, where a task asks about given spans of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def keep_around(pieces: int, spans: Sequence[tuple[int, int]], room: int) -> NDArray[np.int64]:
    """The pieces that stay: those of the spans, then those between spans, then others; the nearest to a span first.

    Spans longer than the room keep their first pieces, all of them about as many.

    Args:
        pieces: pieces of the text.
        spans: half-open, none empty.
        room: most pieces that stay.

    Returns:
        Numbers of pieces, rising; all of them if there is room.
    """
    if pieces <= room:
        return np.arange(pieces)
    places = np.arange(pieces)
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    distance = np.full(pieces, pieces)
    rank = np.where((places >= first) & (places < last), 1, 2)
    for start, end in spans:
        distance = np.minimum(distance, np.maximum(start - places, places - (end - 1)))
    inside = np.full(pieces, pieces)  # from the nearest beginning: one span may be in another
    for start, end in spans:
        inside[start:end] = np.minimum(inside[start:end], places[start:end] - start)
    within = inside < pieces
    rank[within], distance[within] = 0, inside[within]
    return np.sort(np.lexsort((distance, rank))[:room])
