"""Sentences → packed sequences, and digests of what lanes hold; shared by all methods."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.ragged import IntArray, concat_ranges, offsets_from_lengths
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences


def pack(piece_ids: IntArray, lengths: IntArray, special: SpecialIds) -> tuple[NDArray[np.int64], PackedSequences]:
    """Frame sentences by [CLS] and [SEP].

    Args:
        piece_ids: ids of the pieces of all sentences, one after another.
        lengths: pieces of each, [S].
        special: ids of the frame.

    Returns:
        The packed index of every piece, and the packed sequences.
    """
    framed = lengths + 2
    starts = offsets_from_lengths(framed)
    ids = np.empty(starts[-1], dtype=np.int64)
    ids[starts[:-1]], ids[starts[1:] - 1] = special.cls, special.sep
    places = concat_ranges(starts[:-1] + 1, lengths)
    ids[places] = piece_ids
    packed = PackedSequences(
        piece_ids=as_tensor(ids),
        positions=as_tensor(concat_ranges(np.zeros_like(framed), framed)),
        sequence_starts=torch.from_numpy(starts.astype(np.int32)),
        longest=int(framed.max(initial=0)),
    )
    return places, packed


def lane_digest(lane: int, arrays: Iterable[IntArray]) -> int:
    """48 bits that tell what a lane holds: sums over lanes, which do not depend on who holds which, never overflow."""
    data = b"".join(np.asarray(part, dtype="<i8").tobytes() for part in (lane, *arrays))
    return int.from_bytes(blake2b(data, digest_size=6).digest(), "little")


def as_tensor(array: np.ndarray) -> Tensor:
    """An array of integers as int64, contiguous."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
