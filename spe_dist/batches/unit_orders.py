"""Texts cut into units that are put in another order: where things go, and which orders give the same text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged, concat_ranges

_HASH_BASE = np.uint64(0x9E3779B97F4A7C15)


def reordered_begins(unit_lengths: IntArray, orders: IntArray) -> NDArray[np.int64]:
    """Where each unit begins under each order.

    Args:
        unit_lengths: lengths of each of Q texts, [Q, units].
        orders: the unit that stands at each place, [orders, units].

    Returns:
        [Q, orders, units], counted from the begin of the text.
    """
    reordered = unit_lengths[:, orders]  # [Q, orders, place]
    begins = np.cumsum(reordered, axis=2) - reordered
    place_of_unit = np.argsort(orders, axis=1)
    return begins[:, np.arange(len(orders))[:, None], place_of_unit]


def unit_elements(unit_lengths: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Text, unit and offset inside the unit of every element of Q texts of the given units [Q, units]."""
    flat = unit_lengths.reshape(-1)
    unit = np.repeat(np.arange(flat.size), flat)
    return unit // unit_lengths.shape[1], unit % unit_lengths.shape[1], concat_ranges(np.zeros_like(flat), flat)


def distinct_orders(texts: Ragged, unit_lengths: IntArray, orders: IntArray) -> NDArray[np.bool_]:
    """Whether no order before it gives the same text; texts are compared by a 64-bit polynomial hash.

    Args:
        texts: pieces of Q texts, none of them empty.
        unit_lengths: pieces of their units, [Q, units].
        orders: as of `reordered_begins`.

    Returns:
        [Q, orders].
    """
    text, unit, offset = unit_elements(unit_lengths)
    positions = reordered_begins(unit_lengths, orders)[text, :, unit] + offset[:, None]  # [pieces, orders]
    powers = np.full(int(texts.lengths.max(initial=0)) + 1, _HASH_BASE)
    powers[0] = 1
    terms = (texts.values.astype(np.uint64) + np.uint64(1))[:, None] * np.multiply.accumulate(powers)[positions]
    hashes = np.add.reduceat(terms, texts.offsets[:-1], axis=0) if len(texts) else terms
    same = hashes[:, :, None] == hashes[:, None, :]
    return ~np.tril(same, k=-1).any(axis=2)
