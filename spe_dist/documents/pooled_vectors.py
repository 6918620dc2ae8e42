"""Vectors of spans, mentions and entities as means of last-layer states: no weights of their own (ERICA, eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_shards.ragged import IntArray, concat_ranges, offsets_from_lengths
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences, Tensors
from spe_dist.batches.packing import pack
from spe_dist.models.sentence_encoder import SentenceEncoder

_PIECES_AT_A_TIME = 4096


@dataclass(frozen=True)
class PooledPieces(Tensors):
    """Which packed pieces each of V vectors is a mean of: first over the pieces of a mention, then over the mentions.

    Every mention counts alike, however long it is: a piece weighs 1 / (mentions · pieces of the mention).
    """

    pieces: Tensor  # [N] packed index
    weights: Tensor  # [N] fp32
    starts: Tensor  # [V] where the pieces of each vector begin

    @classmethod
    def of_mentions(cls, pieces: IntArray, vectors: IntArray, size: int) -> PooledPieces:
        """Pooled pieces of mentions.

        Args:
            pieces: first packed piece of each mention, and the one after its last, [M, 2]; no mention is empty.
            vectors: which vector each mention belongs to, ascending, [M].
            size: number of vectors, V.
        """
        lengths = pieces[:, 1] - pieces[:, 0]
        mentions = np.bincount(vectors, minlength=size)
        starts = offsets_from_lengths(np.bincount(vectors, weights=lengths, minlength=size).astype(np.int64))
        weights = np.repeat(1 / (mentions[vectors] * lengths), lengths)
        return cls(
            torch.from_numpy(concat_ranges(pieces[:, 0], lengths)),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(starts[:-1]),
        )

    def means(self, states: Tensor) -> Tensor:
        """The vectors in fp32, [V, H], of states [P, H]; 0 for a vector without mentions."""
        return nn.functional.embedding_bag(
            self.pieces, states.float(), self.starts, mode="sum", per_sample_weights=self.weights
        )


@dataclass(frozen=True)
class PooledText:
    """A text of P pieces, and the mentions that its V vectors are means of."""

    piece_ids: IntArray  # [P] without special ones
    mentions: IntArray  # [M, 3] vector, first piece, piece after the last; vectors ascending, no mention empty
    size: int  # V
    prefix: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # in front; mentions do not count it


@dataclass(frozen=True)
class PooledForwards:
    """Texts packed into forwards of similar length: attention on a CPU pads to the longest of a few."""

    forwards: tuple[tuple[PackedSequences, PooledPieces], ...]
    places: Tensor  # of each vector of each text, its place in the output of all forwards

    @classmethod
    def pack(cls, texts: Sequence[PooledText], special: SpecialIds) -> PooledForwards:
        """[CLS] prefix text [SEP] of every text."""
        lengths = np.array([len(text.prefix) + len(text.piece_ids) for text in texts], dtype=np.int64)
        order = np.argsort(lengths, kind="stable")
        breaks = np.flatnonzero(np.diff(np.cumsum(lengths[order] + 2) // _PIECES_AT_A_TIME)) + 1
        sizes = np.array([text.size for text in texts], dtype=np.int64)
        starts = np.empty_like(sizes)
        starts[order] = offsets_from_lengths(sizes[order])[:-1]
        forwards = [[texts[row] for row in rows] for rows in np.split(order, breaks) if len(rows)]
        return cls(
            tuple(_pack_forward(rows, special) for rows in forwards), torch.from_numpy(concat_ranges(starts, sizes))
        )

    def vectors(self, encoder: SentenceEncoder) -> Tensor:
        """The vectors of all texts, one text after another, in fp32 on the encoder's device, [V of all texts, H]."""
        device = next(encoder.parameters()).device
        parts = [torch.zeros(0, encoder.hidden_size, device=device)]
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda"):
            parts += [pooled.to(device).means(encoder(packed.to(device))) for packed, pooled in self.forwards]
        return torch.cat(parts)[self.places.to(device)]


def _pack_forward(texts: Sequence[PooledText], special: SpecialIds) -> tuple[PackedSequences, PooledPieces]:
    ids: list[IntArray] = [part for text in texts for part in (text.prefix, text.piece_ids)]
    lengths = np.array([len(text.prefix) + len(text.piece_ids) for text in texts])
    _, packed = pack(np.concatenate(ids), lengths, special)
    first_vectors = offsets_from_lengths(np.array([text.size for text in texts]))
    mentions: list[NDArray[np.int64]] = []
    for text, sequence, vector in zip(texts, packed.sequence_starts.tolist(), first_vectors, strict=False):
        first_piece = sequence + 1 + len(text.prefix)
        mentions.append(text.mentions + np.array([vector, first_piece, first_piece]))
    rows = np.concatenate(mentions)
    return packed, PooledPieces.of_mentions(rows[:, 1:], rows[:, 0], int(first_vectors[-1]))
