"""Sentences with their words in another order (ENPAR paper): what ACD and PP make of a pair of entities.

A pair cuts its sentence into left, first entity, middle, second entity, right. A rearranged copy is the sentence's word
ranges in another order, and the places where the two entities then stand:

    perturbed   one of five: the entities change places, or one of them moves up to `max_shift` words to its left or
                right, never past the other entity or the end of the sentence                                     (ACD)
    permuted    the five parts in one of their 120 orders, numbered as `itertools.permutations` lists them        (PP)

A copy whose pieces are those of the sentence itself is no perturbation and is not made; nor is a permutation whose
pieces a smaller class gives too, for its class could not be told from the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged, concat_ranges, offsets_from_lengths
from data_shards.shards.record import Records
from spe_dist.batches.five_spans import FIRST, NUM_SPANS, SECOND
from spe_dist.batches.random_draws import FloatArray
from spe_dist.batches.unit_orders import distinct_orders

CLASSES = np.array(list(permutations(range(NUM_SPANS))))  # [120, 5]: the part that stands at each place
NUM_CLASSES = len(CLASSES)
PERTURBATIONS = ("swap", "first_left", "first_right", "second_left", "second_right")
_SWAP, _FIRST_LEFT, _FIRST_RIGHT, _SECOND_LEFT, _SECOND_RIGHT = range(len(PERTURBATIONS))
_NO_ROWS = np.zeros(0, dtype=np.int64)
# Of the ranges of each perturbation (see `_perturbed_ranges`), which are the two entities, in the order of the text.
_ENTITY_RANGES = np.array([[1, 3], [1, 4], [2, 4], [1, 3], [1, 4]])


@dataclass(frozen=True)
class Rearranged:
    """C copies: `records` [C] sorted; `ranges` [C, n, 2] words of the record in their new order; and the pair in it."""

    records: NDArray[np.int64]
    ranges: NDArray[np.int64]
    word_boundaries: NDArray[np.int64]  # [C, 6] of the five spans around the entities, in the new order
    kinds: NDArray[np.int64]  # [C] which perturbation, or which class

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int64],
        ranges: NDArray[np.int64],
        entity_ranges: NDArray[np.int64],
        kinds: NDArray[np.int64],
    ) -> Self:
        """Copies from their ranges, of which two [C, 2] are the entities, in any order."""
        lengths = ranges[:, :, 1] - ranges[:, :, 0]
        ends = np.cumsum(lengths, axis=1)
        places = np.sort(entity_ranges, axis=1)
        starts, stops = (np.take_along_axis(bounds, places, axis=1) for bounds in (ends - lengths, ends))
        zeros = np.zeros(len(rows), dtype=np.int64)
        boundaries = np.stack([zeros, starts[:, 0], stops[:, 0], starts[:, 1], stops[:, 1], ends[:, -1]], axis=1)
        return cls(rows, ranges, boundaries, kinds)

    def take(self, copies: IntArray | NDArray[np.bool_]) -> Rearranged:
        """Some of the copies."""
        return Rearranged(self.records[copies], self.ranges[copies], self.word_boundaries[copies], self.kinds[copies])

    def apply(self, records: Records) -> Records:
        """The copies as sentences."""
        first_words = records.word_starts.offsets[self.records]
        starts = (first_words[:, None] + self.ranges[:, :, 0]).reshape(-1)
        words = concat_ranges(starts, (self.ranges[:, :, 1] - self.ranges[:, :, 0]).reshape(-1))
        piece_lengths = records.pieces_per_word[words]
        pieces = records.pieces.values[concat_ranges(records.first_pieces[words], piece_lengths)]
        piece_offsets = offsets_from_lengths(records.pieces.lengths[self.records])
        word_lengths = records.word_starts.lengths[self.records]
        word_starts = np.cumsum(piece_lengths) - piece_lengths - np.repeat(piece_offsets[:-1], word_lengths)
        return Records(Ragged(pieces, piece_offsets), Ragged.from_lengths(word_starts, word_lengths))


def perturb(
    records: Records, word_boundaries: IntArray, uniforms: FloatArray, *, copies: int, max_shift: int
) -> tuple[Rearranged, Records]:
    """Draw perturbations of each sentence, all different, and apply them.

    Args:
        records: the sentences.
        word_boundaries: their pair, as the six boundaries of five spans, [R, 6].
        uniforms: random numbers in [0, 1), [R, 5].
        copies: copies of each sentence, at most; fewer are made where fewer change the text.
        max_shift: words that an entity moves, unless there are fewer.
    """
    if not copies:
        records, word_boundaries, uniforms = records.take(_NO_ROWS), word_boundaries[:0], uniforms[:0]
    rows = np.repeat(np.arange(len(records)), len(PERTURBATIONS))
    kinds = np.tile(np.arange(len(PERTURBATIONS)), len(records))
    ranges = _perturbed_ranges(word_boundaries, max_shift).reshape(-1, 6, 2)
    everything = Rearranged.of(rows, ranges, _ENTITY_RANGES[kinds], kinds)
    changed = _differ(everything.apply(records).pieces, records.pieces.take(rows))
    keys = np.where(changed.reshape(uniforms.shape), uniforms, np.inf)
    drawn = np.argsort(np.argsort(keys, axis=1), axis=1).reshape(-1) < copies
    chosen = everything.take(drawn & changed)
    return chosen, chosen.apply(records)


def permute(
    records: Records, word_boundaries: IntArray, uniforms: FloatArray, *, copies: int
) -> tuple[Rearranged, Records]:
    """Draw permutations of each sentence, none of them the identity and all with different texts, and apply them.

    Args:
        records: the sentences.
        word_boundaries: as of `perturb`.
        uniforms: random numbers in [0, 1), [R, 120].
        copies: copies of each sentence, at most.
    """
    if not copies:
        records, word_boundaries, uniforms = records.take(_NO_ROWS), word_boundaries[:0], uniforms[:0]
    parts = np.stack([word_boundaries[:, :-1], word_boundaries[:, 1:]], axis=2)  # [R, 5, 2]
    begins = records.word_bounds
    bounds = begins[word_boundaries + records.word_starts.offsets[:-1, None]]
    distinct = distinct_orders(records.pieces, np.diff(bounds, axis=1), CLASSES)
    distinct[:, 0] = False
    keys = np.where(distinct, uniforms, np.inf)
    classes = np.argsort(keys, axis=1)[:, :copies]
    rows, slots = np.nonzero(np.take_along_axis(distinct, classes, axis=1))
    kinds = classes[rows, slots]
    orders = CLASSES[kinds]
    ranges = parts[rows[:, None], orders]
    places = np.argsort(orders, axis=1)[:, [FIRST, SECOND]]
    permuted = Rearranged.of(rows, ranges, places, kinds)
    return permuted, permuted.apply(records)


def _perturbed_ranges(word_boundaries: IntArray, max_shift: int) -> NDArray[np.int64]:
    """The word ranges of each of the five perturbations, [R, 5, 6, 2]."""
    zero, a, b, c, d, n = word_boundaries.T
    before, between, after = (np.minimum(room, max_shift) for room in (a, c - b, n - d))
    x, y, z, w = a - before, b + between, c - between, d + after
    ranges = {
        _SWAP: ((zero, a), (c, d), (b, c), (a, b), (d, n), (n, n)),
        _FIRST_LEFT: ((zero, x), (a, b), (x, a), (b, c), (c, d), (d, n)),
        _FIRST_RIGHT: ((zero, a), (b, y), (a, b), (y, c), (c, d), (d, n)),
        _SECOND_LEFT: ((zero, a), (a, b), (b, z), (c, d), (z, c), (d, n)),
        _SECOND_RIGHT: ((zero, a), (a, b), (b, c), (d, w), (c, d), (w, n)),
    }
    columns = [[np.stack(bounds, axis=1) for bounds in ranges[kind]] for kind in range(len(PERTURBATIONS))]
    return np.stack([np.stack(of_kind, axis=1) for of_kind in columns], axis=1)


def _differ(texts: Ragged, others: Ragged) -> NDArray[np.bool_]:
    """Whether two texts of equal length differ, for each of Q of them, none empty."""
    if not len(texts):
        return np.zeros(0, dtype=bool)
    return np.logical_or.reduceat(texts.values != others.values, texts.offsets[:-1])
