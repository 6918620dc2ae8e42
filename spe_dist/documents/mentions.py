"""Where the mentions of documents are, as pieces, and which entity each names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged, concat_ranges
from data_shards.shards.record import Records


def mention_pieces(records: Records) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First piece of each mention among the pieces of all records, and number of its pieces; [mentions] each."""
    mentions = records.entities
    words = records.word_starts.offsets[:-1][mentions.row_index()]
    bounds = records.word_bounds
    starts = bounds[mentions.values[:, 0] + words]
    return starts, bounds[mentions.values[:, 1] + words] - starts


def entity_of_mention(records: Records) -> NDArray[np.int64]:
    """Which entity, numbered over all records, each mention names."""
    offsets = records.layers["knowledge_ids"].offsets
    return records.layers["mention_entities"].values + np.repeat(offsets[:-1], records.entities.lengths)


def first_mention_rows(records: Records, entities: IntArray) -> NDArray[np.int64]:
    """Number among all mentions of the first one of each entity, of the shape of `entities`."""
    of_mention = entity_of_mention(records)
    order = np.argsort(of_mention, kind="stable")
    return order[np.searchsorted(of_mention[order], entities)]


def first_mentions(records: Records, entities: IntArray) -> Ragged:
    """Pieces of the first mention of each entity."""
    starts, lengths = mention_pieces(records)
    first = first_mention_rows(records, entities)
    return Ragged.from_lengths(
        records.pieces.values[concat_ranges(starts[first], lengths[first])].astype(np.int64), lengths[first]
    )


def in_mentions(records: Records) -> NDArray[np.bool_]:
    """Whether each piece of all records is in a mention, [pieces]."""
    first_words = np.repeat(records.word_starts.offsets[:-1], records.entities.lengths)
    spans = records.entities.values[:, :2].astype(np.int64) + first_words[:, None]
    changes = np.bincount(spans[:, 0], minlength=len(records.first_pieces) + 1)
    changes = changes - np.bincount(spans[:, 1], minlength=len(changes))
    return np.repeat(np.cumsum(changes[:-1]) > 0, records.pieces_per_word)
