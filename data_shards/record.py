"""One record = one sentence as word pieces and words; a block = some thousand records as flat arrays.

Schema version 1 of a block (one tar group; members `KEY.<name>.npy`, readable with numpy alone):

    pieces        [P]      uint16 or uint32   piece ids of all records, without special pieces
    piece_offsets [N + 1]  uint32             record i owns pieces[piece_offsets[i]:piece_offsets[i + 1]]
    word_starts   [W]      uint8 or uint16    index of each word's first piece, counted from its record's first piece
    word_offsets  [N + 1]  uint32             record i owns word_starts[word_offsets[i]:word_offsets[i + 1]]

A word owns the pieces from its start to the next word's start, so every piece belongs to exactly one word.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_shards.ragged import IntArray, Ragged

SCHEMA_VERSION = 1
MEMBERS = ("pieces.npy", "piece_offsets.npy", "word_starts.npy", "word_offsets.npy")


@dataclass(frozen=True)
class Records:
    """N records: `pieces` holds piece ids, `word_starts` the record-relative index of each word's first piece."""

    pieces: Ragged
    word_starts: Ragged

    def __len__(self) -> int:
        return len(self.pieces)

    def take(self, rows: IntArray) -> Records:
        """The given records, in the given order."""
        return Records(self.pieces.take(rows), self.word_starts.take(rows))

    @classmethod
    def concat(cls, parts: Sequence[Records]) -> Records:
        """All records of all parts, in order."""
        return cls(Ragged.concat([p.pieces for p in parts]), Ragged.concat([p.word_starts for p in parts]))


def block_members(records: Records, *, vocab_size: int, max_pieces: int) -> dict[str, bytes]:
    """A block as the members of one tar group: name → bytes of an `.npy` file."""
    piece_type = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    start_type = np.uint8 if max_pieces <= 1 << 8 else np.uint16
    arrays = (
        records.pieces.values.astype(piece_type),
        records.pieces.offsets.astype(np.uint32),
        records.word_starts.values.astype(start_type),
        records.word_starts.offsets.astype(np.uint32),
    )
    return {name: _npy_bytes(array) for name, array in zip(MEMBERS, arrays, strict=True)}


def records_from_members(members: Mapping[str, bytes]) -> Records:
    """The records of one tar group.

    Raises:
        ValueError: a member is missing, is not a plain array (pickles are never loaded), or arrays do not fit together.
    """
    missing = [name for name in MEMBERS if name not in members]
    if missing:
        raise ValueError(f"block without {', '.join(missing)}")
    arrays = [np.load(io.BytesIO(members[name]), allow_pickle=False) for name in MEMBERS]
    pieces, piece_offsets, word_starts, word_offsets = arrays
    fits = (
        all(array.ndim == 1 and array.dtype.kind == "u" for array in arrays)
        and len(piece_offsets) == len(word_offsets) > 0
        and piece_offsets[0] == word_offsets[0] == 0
        and piece_offsets[-1] == len(pieces)
        and word_offsets[-1] == len(word_starts)
    )
    if not fits:
        raise ValueError("arrays of a block do not fit together")
    return Records(
        Ragged(pieces, piece_offsets.astype(np.int64)),
        Ragged(word_starts, word_offsets.astype(np.int64)),
    )


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
