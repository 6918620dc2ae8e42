"""Entity markers (ERICA paper, §5.4): [S_k] mention [E_k], where k is a random number of the entity in its document.

A mention's vector is then the state of its first marker. The 200 markers are new rows of the word embeddings, behind
the vocabulary of the tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import concat_ranges, offsets_from_lengths
from data_shards.shards.record import Records
from spe_dist.batches.random_draws import FloatArray
from spe_dist.documents.mentions import entity_of_mention, mention_pieces

PAIRS = 100  # of markers, and so the most entities of a document
PIECES = 2 * PAIRS
MOST_MENTIONS = 64  # of a document that are marked


@dataclass(frozen=True)
class Markers:
    """M pairs of markers, document after document."""

    mentions: NDArray[np.int64]  # [M] that they are around
    entities: NDArray[np.int64]  # [M] numbered over all documents
    numbers: NDArray[np.int64]  # [M] k
    per_record: NDArray[np.int64]  # [R]


def place_markers(records: Records, uniforms: FloatArray) -> Markers:
    """Mark the first mention of every entity, and further ones in the order of the text up to MOST_MENTIONS.

    Args:
        records: documents of at most MOST_MENTIONS entities.
        uniforms: random numbers in [0, 1), [R, PAIRS].
    """
    entity, record = entity_of_mention(records), records.entities.row_index()
    is_first = np.zeros(len(entity), dtype=np.bool_)
    is_first[np.unique(entity, return_index=True)[1]] = True
    order = np.lexsort((np.arange(len(entity)), ~is_first, record))
    lengths = records.entities.lengths
    rank = np.empty(len(entity), dtype=np.int64)
    rank[order] = concat_ranges(np.zeros_like(lengths), lengths)
    marked = np.flatnonzero(rank < MOST_MENTIONS)
    number = np.argsort(uniforms, axis=1)
    of_document = entity - records.layers["knowledge_ids"].offsets[record]
    return Markers(
        marked,
        entity[marked],
        number[record[marked], of_document[marked]],
        np.bincount(record[marked], minlength=len(records)),
    )


def spread(records: Records, markers: Markers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Make room for markers.

    Returns:
        How many places of its record each piece moves back, [pieces]; the lengths of the records with markers, [R].
    """
    first, lengths = mention_pieces(records)
    first, last = first[markers.mentions], (first + lengths)[markers.mentions]
    pieces = len(records.pieces.values)
    before = np.cumsum(np.bincount(first, minlength=pieces + 1) + np.bincount(last, minlength=pieces + 1))[:pieces]
    of_earlier = np.repeat(2 * offsets_from_lengths(markers.per_record)[:-1], records.pieces.lengths)
    return before - of_earlier, records.pieces.lengths + 2 * markers.per_record
