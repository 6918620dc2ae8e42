"""One record = one sentence, or one document; a dataset has it in layers: pieces and words, and those declared here.

A block is some thousand records as flat arrays. Schema version 1 of a block (one tar group; members `KEY.<name>.npy`,
readable with numpy alone) has two members for each layer of `LAYERS`, its values and their offsets:

    pieces         [P]     uint16 or uint32   piece ids of all records, without special pieces
    piece_offsets  [N + 1]  uint32             record i owns pieces[piece_offsets[i]:piece_offsets[i + 1]]
    word_starts    [W]      uint8 or uint16    index of each word's first piece, counted from its record's first piece
    word_offsets   [N + 1]  uint32             record i owns word_starts[word_offsets[i]:word_offsets[i + 1]]
    entities       [E, 3]   uint16             first word, word after the last, type; words counted in their record
    entity_offsets [N + 1]  uint32             record i owns entities[entity_offsets[i]:entity_offsets[i + 1]]

Documents have further layers; rows of `entities` are then mentions, several of which may name one entity:

    sentence_starts  [S]      uint16   index of each sentence's first word, counted in its record
    mention_entities [E]      uint16   number of the entity, in the record, that each row of `entities` mentions
    knowledge_ids    [K]      uint32   number of each entity in the knowledge base; UNLINKED if it is not in it
    relations        [F, 3]   uint16   head and tail, numbers of entities in the record, and relation; BLOCKED: a pair
                                       that evaluation data hold, which is to be neither a positive nor a negative

A word owns the pieces from its start to the next word's start, so every piece belongs to exactly one word. Entities of
a record are sorted and do not overlap. All datasets have pieces and words; the manifest says what else one has.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged

SCHEMA_VERSION = 1
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..{'descr': '([<|]u[1248])', 'fortran_order': False, 'shape': \(([0-9, ]{1,40})\), } *\n",
    re.DOTALL,
)
_NO_FIT = "arrays of a block do not fit together"


@dataclass(frozen=True)
class Layer:
    """What a part of every record is made of, and how a block stores it.

    Args:
        values: member that holds the values of all records.
        offsets: member that says which values each record owns; layers may share one.
        dtype: (vocabulary size, most pieces of a record) → type of the stored values.
        largest: pieces of each word of a record → the most values that the layer can have for it (`train/rehearsal`).
        columns: of a value; None where a value is a number.
    """

    values: str
    offsets: str
    dtype: Callable[[int, int], type[np.unsignedinteger]]
    largest: Callable[[IntArray], IntArray]
    columns: int | None = None

    @property
    def members(self) -> tuple[str, str]:
        """Names of its two files in a block."""
        return f"{self.values}.npy", f"{self.offsets}.npy"

    def no_values(self) -> np.ndarray:
        """An array of its shape without values."""
        return np.zeros((0, self.columns) if self.columns else 0, dtype=np.uint16)


def _pieces_that_differ(word_lengths: IntArray) -> IntArray:
    """Ids that any vocabulary has. With equal ids every order of words is the same text, and ENPAR makes no copy."""
    return np.arange(int(word_lengths.sum())) % 31


def _every_other_word(word_lengths: IntArray) -> IntArray:
    first = np.arange(0, len(word_lengths), 2)
    return np.stack([first, first + 1, np.zeros_like(first)], axis=1)


def _entity_of_every_mention(word_lengths: IntArray) -> IntArray:
    return np.arange(len(_every_other_word(word_lengths)))


def _entity_with_the_next(word_lengths: IntArray) -> IntArray:
    head = _entity_of_every_mention(word_lengths)[:-1]
    return np.stack([head, head + 1, np.zeros_like(head)], axis=1)


UNLINKED, BLOCKED = (1 << 32) - 1, (1 << 16) - 1
MAX_RELATIONS = BLOCKED  # numbers below it
ENTITIES, RELATIONS = "entities", "relations"
DOCUMENT_LAYERS = ("sentence_starts", "mention_entities", "knowledge_ids", RELATIONS)  # beside ENTITIES
TEXT_LAYERS = ("pieces", "words")  # of every dataset
LAYERS: dict[str, Layer] = {
    "pieces": Layer(
        "pieces",
        "piece_offsets",
        dtype=lambda vocab_size, _: np.uint16 if vocab_size <= 1 << 16 else np.uint32,
        largest=_pieces_that_differ,
    ),
    "words": Layer(
        "word_starts",
        "word_offsets",
        dtype=lambda _, max_pieces: np.uint8 if max_pieces <= 1 << 8 else np.uint16,
        largest=lambda word_lengths: np.cumsum(word_lengths) - word_lengths,
    ),
    ENTITIES: Layer(
        "entities", "entity_offsets", dtype=lambda *_: np.uint16, largest=_every_other_word, columns=3
    ),
    "sentence_starts": Layer(
        "sentence_starts", "sentence_offsets", dtype=lambda *_: np.uint16, largest=lambda _: np.zeros(1, dtype=np.int64)
    ),
    "mention_entities": Layer(
        "mention_entities", "entity_offsets", dtype=lambda *_: np.uint16, largest=_entity_of_every_mention
    ),
    "knowledge_ids": Layer(
        "knowledge_ids", "knowledge_offsets", dtype=lambda *_: np.uint32, largest=_entity_of_every_mention
    ),
    "relations": Layer(
        "relations", "relation_offsets", dtype=lambda *_: np.uint16, largest=_entity_with_the_next, columns=3
    ),
}  # fmt: skip


class Records:
    """N records.

    Args:
        pieces: piece ids of each record.
        words: index of each word's first piece, counted from its record's first piece.
        others: further layers by name, such as entities=.
    """

    def __init__(self, pieces: Ragged, words: Ragged, **others: Ragged) -> None:
        self.layers: dict[str, Ragged] = {"pieces": pieces, "words": words, **others}
        self.pieces, self.word_starts = pieces, words

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def entities(self) -> Ragged:
        """Rows of (first word, word after the last, type); a KeyError in records without them."""
        return self.layers[ENTITIES]

    @cached_property
    def word_bounds(self) -> NDArray[np.int64]:
        """Index of every word's first piece among the pieces of all records, and the end of the last, [words + 1]."""
        first = self.word_starts.values + np.repeat(self.pieces.offsets[:-1], self.word_starts.lengths)
        return np.append(first, len(self.pieces.values))

    @property
    def first_pieces(self) -> NDArray[np.int64]:
        """Index of every word's first piece among the pieces of all records, [words]."""
        return self.word_bounds[:-1]

    @cached_property
    def pieces_per_word(self) -> NDArray[np.int64]:
        """Pieces of every word, [words]."""
        return np.diff(self.word_bounds)

    def with_layer(self, name: str, layer: Ragged) -> Records:
        """The same records with one layer more, or another one of that name."""
        return Records(**self.layers | {name: layer})

    def take(self, rows: IntArray) -> Records:
        """The given records, in the given order."""
        return Records(**{name: layer.take(rows) for name, layer in self.layers.items()})

    @classmethod
    def concat(cls, parts: Sequence[Records]) -> Records:
        """All records of all parts, in order, with the layers that all parts have."""
        shared = [name for name in parts[0].layers if all(name in part.layers for part in parts)]
        return cls(**{name: Ragged.concat([part.layers[name] for part in parts]) for name in shared})

    @classmethod
    def empty(cls, layers: Iterable[str] = TEXT_LAYERS) -> Records:
        """No records, of these layers."""
        no_rows = np.zeros(0, dtype=np.int64)
        return cls(**{name: Ragged.from_lengths(LAYERS[name].no_values(), no_rows) for name in layers})


def known_layers(names: Iterable[str]) -> list[str]:
    """The layers of a dataset that this program reads, in the order of `LAYERS`; others are passed over."""
    return [name for name in LAYERS if name in (*TEXT_LAYERS, *names)]


def block_members(records: Records, *, vocab_size: int, max_pieces: int) -> dict[str, bytes]:
    """A block as the members of one tar group: name → bytes of an `.npy` file."""
    members = {}
    for name, layer in records.layers.items():
        values, offsets = LAYERS[name].members
        members[values] = _npy_bytes(layer.values.astype(LAYERS[name].dtype(vocab_size, max_pieces)))
        members[offsets] = _npy_bytes(layer.offsets.astype(np.uint32))
    return members


def records_from_members(members: Mapping[str, bytes], layers: Iterable[str] = TEXT_LAYERS) -> Records:
    """The records of one tar group.

    Args:
        members: content of its files by name; those of other layers are passed over.
        layers: to read.

    Raises:
        ValueError: a member is missing, is not a plain array (pickles are never loaded), or arrays do not fit together.
    """
    wanted = {name: LAYERS[name] for name in layers}
    missing = [member for layer in wanted.values() for member in layer.members if member not in members]
    if missing:
        raise ValueError(f"block without {', '.join(missing)}")
    read = {name: _ragged(*(_array(members[member]) for member in layer.members)) for name, layer in wanted.items()}
    for name, layer in wanted.items():
        if read[name].values.shape[1:] != (() if layer.columns is None else (layer.columns,)):
            raise ValueError(_NO_FIT)
    if len({len(layer) for layer in read.values()}) > 1:
        raise ValueError(_NO_FIT)
    return Records(**read)


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
