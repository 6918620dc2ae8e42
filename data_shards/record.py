"""One record = one sentence as word pieces and words; a block = some thousand records as flat arrays.

Schema version 1 of a block (one tar group; members `KEY.<name>.npy`, readable with numpy alone):

    pieces        [P]      uint16 or uint32   piece ids of all records, without special pieces
    piece_offsets [N + 1]  uint32             record i owns pieces[piece_offsets[i]:piece_offsets[i + 1]]
    word_starts   [W]      uint8 or uint16    index of each word's first piece, counted from its record's first piece
    word_offsets  [N + 1]  uint32             record i owns word_starts[word_offsets[i]:word_offsets[i + 1]]

A word owns the pieces from its start to the next word's start, so every piece belongs to exactly one word.

Datasets with the layer "entities" have two members more:

    entities       [E, 3]   uint16   first word, word after the last, type; words counted in their record
    entity_offsets [N + 1]  uint32   record i owns entities[entity_offsets[i]:entity_offsets[i + 1]]

Entities of a record are sorted and do not overlap.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_shards.ragged import IntArray, Ragged

SCHEMA_VERSION = 1
MEMBERS = ("pieces.npy", "piece_offsets.npy", "word_starts.npy", "word_offsets.npy")
ENTITY_MEMBERS = ("entities.npy", "entity_offsets.npy")
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..{'descr': '([<|]u[1248])', 'fortran_order': False, 'shape': \(([0-9, ]{1,40})\), } *\n",
    re.DOTALL,
)
_NO_FIT = "arrays of a block do not fit together"


@dataclass(frozen=True)
class Records:
    """N records: `pieces` holds piece ids, `word_starts` the record-relative index of each word's first piece.

    `entities`, in datasets that have them, holds rows of (first word, word after the last, type).
    """

    pieces: Ragged
    word_starts: Ragged
    entities: Ragged | None = None

    def __len__(self) -> int:
        return len(self.pieces)

    def take(self, rows: IntArray) -> Records:
        """The given records, in the given order."""
        entities = None if self.entities is None else self.entities.take(rows)
        return Records(self.pieces.take(rows), self.word_starts.take(rows), entities)

    @classmethod
    def concat(cls, parts: Sequence[Records]) -> Records:
        """All records of all parts, in order; with entities if all parts have them."""
        entities = [part.entities for part in parts if part.entities is not None]
        return cls(
            Ragged.concat([part.pieces for part in parts]),
            Ragged.concat([part.word_starts for part in parts]),
            Ragged.concat(entities) if len(entities) == len(parts) else None,
        )


def block_members(records: Records, *, vocab_size: int, max_pieces: int) -> dict[str, bytes]:
    """A block as the members of one tar group: name → bytes of an `.npy` file."""
    piece_type = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    start_type = np.uint8 if max_pieces <= 1 << 8 else np.uint16
    arrays: tuple[np.ndarray, ...] = (
        records.pieces.values.astype(piece_type),
        records.pieces.offsets.astype(np.uint32),
        records.word_starts.values.astype(start_type),
        records.word_starts.offsets.astype(np.uint32),
    )
    members = dict(zip(MEMBERS, map(_npy_bytes, arrays), strict=True))
    if records.entities is None:
        return members
    entities: tuple[np.ndarray, ...] = (
        records.entities.values.astype(np.uint16),
        records.entities.offsets.astype(np.uint32),
    )
    return members | dict(zip(ENTITY_MEMBERS, map(_npy_bytes, entities), strict=True))


def records_from_members(members: Mapping[str, bytes]) -> Records:
    """The records of one tar group.

    Raises:
        ValueError: a member is missing, is not a plain array (pickles are never loaded), or arrays do not fit together.
    """
    missing = [name for name in MEMBERS if name not in members]
    if missing:
        raise ValueError(f"block without {', '.join(missing)}")
    pieces, piece_offsets, word_starts, word_offsets = (_array(members[name]) for name in MEMBERS)
    if any(array.ndim != 1 for array in (pieces, word_starts)) or len(piece_offsets) != len(word_offsets):
        raise ValueError(_NO_FIT)
    entities = None
    if all(name in members for name in ENTITY_MEMBERS):
        rows, offsets = (_array(members[name]) for name in ENTITY_MEMBERS)
        if rows.ndim != 2 or rows.shape[1] != 3 or len(offsets) != len(piece_offsets):
            raise ValueError(_NO_FIT)
        entities = _ragged(rows, offsets)
    return Records(_ragged(pieces, piece_offsets), _ragged(word_starts, word_offsets), entities)


def _array(content: bytes) -> np.ndarray:
    """An array of unsigned integers from a file as `_npy_bytes` writes it: numpy would evaluate any header."""
    header = _NPY.match(content)
    if header is None:
        raise ValueError("an array that this program did not write")
    dtype, shape = np.dtype(header[1].decode()), [int(size) for size in header[2].split(b",") if size.strip()]
    if math.prod(shape) * dtype.itemsize != len(content) - header.end():
        raise ValueError(_NO_FIT)
    return np.frombuffer(content, dtype, offset=header.end()).reshape(shape).copy()


def _ragged(values: np.ndarray, offsets: np.ndarray) -> Ragged:
    if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(values):
        raise ValueError(_NO_FIT)
    if (offsets[1:] < offsets[:-1]).any():
        raise ValueError(_NO_FIT)
    return Ragged(values, offsets.astype(np.int64))


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
