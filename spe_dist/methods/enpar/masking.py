"""Masked entities (ENPAR paper): of every sentence's entities, 15 % are masked and 5 % replaced by another entity.

A masked entity loses all of its pieces to [MASK]. A replaced one gets those of another entity of its lane whose words
have as many pieces, word by word, so that the sentence keeps its words; where there is no such entity, it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged, concat_ranges
from data_shards.shards.record import Records
from spe_dist.batches.random_draws import FloatArray

COLUMNS = 2  # random numbers per entity
_HASH_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class MaskedEntities:
    """The sentences' pieces with some entities hidden, and the E entities of all of them."""

    piece_ids: NDArray[np.int64]  # [pieces]
    word_starts: NDArray[np.int64]  # [E] first word of each entity, among the words of all records
    word_ends: NDArray[np.int64]  # [E]
    types: NDArray[np.int64]  # [E]
    hidden: NDArray[np.bool_]  # [E] masked or replaced
    pieces: NDArray[np.int64]  # [T] the pieces of hidden entities, among those of all records


def mask_entities(
    records: Records, lanes: IntArray, uniforms: FloatArray, *, masked: float, replaced: float, mask_id: int
) -> MaskedEntities:
    """Hide entities.

    Args:
        records: with entities.
        lanes: the lane of each record, [R].
        uniforms: random numbers in [0, 1), [E, 2].
        masked: share of entities that are masked.
        replaced: share of entities that are replaced.
        mask_id: what masks a piece.
    """
    rows = records.entities.row_index()
    values = records.entities.values.astype(np.int64)
    word_starts, word_ends = (values[:, :2] + records.word_starts.offsets[rows, None]).T
    begins = records.word_bounds
    piece_starts, lengths = begins[word_starts], begins[word_ends] - begins[word_starts]
    ids = records.pieces.values.astype(np.int64)
    donors = _donors(records, lanes[rows], word_starts, word_ends, piece_starts, lengths, uniforms[:, 1])
    is_masked = uniforms[:, 0] < masked
    is_replaced = ~is_masked & (uniforms[:, 0] < masked + replaced) & (donors >= 0)
    hidden_pieces = ids.copy()
    hidden_pieces[concat_ranges(piece_starts[is_masked], lengths[is_masked])] = mask_id
    places = concat_ranges(piece_starts[is_replaced], lengths[is_replaced])
    hidden_pieces[places] = ids[concat_ranges(piece_starts[donors[is_replaced]], lengths[is_replaced])]
    hidden = is_masked | is_replaced
    pieces = concat_ranges(piece_starts[hidden], lengths[hidden])
    return MaskedEntities(hidden_pieces, word_starts, word_ends, values[:, 2], hidden, pieces)


def _donors(
    records: Records,
    lanes: IntArray,
    word_starts: IntArray,
    word_ends: IntArray,
    piece_starts: IntArray,
    lengths: IntArray,
    uniforms: FloatArray,
) -> NDArray[np.int64]:
    """For each entity a random one of its lane with the same shape and other pieces; -1 if there is none, [E]."""
    if not len(lanes):
        return np.zeros(0, dtype=np.int64)
    word_lengths = word_ends - word_starts
    shapes = _hash(records.pieces_per_word[concat_ranges(word_starts, word_lengths)], word_lengths)
    contents = _hash(records.pieces.values[concat_ranges(piece_starts, lengths)], lengths)
    order = np.lexsort((contents, shapes, lanes))
    group = _runs(lanes[order], shapes[order])
    content = _runs(lanes[order], shapes[order], contents[order])
    group_starts, group_sizes = _starts_and_sizes(group)
    content_starts, content_sizes = _starts_and_sizes(content)
    others = group_sizes - content_sizes
    # The others of a group stand before and behind those with the same pieces.
    drawn = group_starts + np.minimum((uniforms[order] * others).astype(np.int64), np.maximum(others - 1, 0))
    drawn += np.where(drawn >= content_starts, content_sizes, 0)
    donors = np.full(len(order), -1)
    found = others > 0
    donors[order[found]] = order[drawn[found]]
    return donors


def _hash(values: np.ndarray, lengths: IntArray) -> NDArray[np.uint64]:
    """A 64-bit polynomial hash of each of some rows of values, none empty."""
    rows = Ragged.from_lengths(values, lengths)
    powers = np.full(int(lengths.max()), _HASH_BASE)
    powers = np.multiply.accumulate(powers)
    terms = (values.astype(np.uint64) + np.uint64(1)) * powers[concat_ranges(np.zeros_like(lengths), lengths)]
    return np.add.reduceat(terms, rows.offsets[:-1])


def _runs(*sorted_columns: np.ndarray) -> NDArray[np.int64]:
    """Number of the run of equal rows that each row is in."""
    changes = np.zeros(len(sorted_columns[0]), dtype=bool)
    for column in sorted_columns:
        changes[1:] |= column[1:] != column[:-1]
    return np.cumsum(changes)


def _starts_and_sizes(runs: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the run of each row begins, and how many rows it has."""
    sizes = np.bincount(runs)
    starts = np.cumsum(sizes) - sizes
    return starts[runs], sizes[runs]
