"""The sequences that the encoder sees of a sentence: the pair view shows the span pair, the context view the rest.

What a view does not show is replaced by [MASK]. One for each piece (SPE paper): the length stays, and so do the
positions. Or one for each span: what is hidden then leaves nothing but its place between the other spans. Without
either, the whole sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_shards.ragged import IntArray, offsets_from_lengths
from data_shards.shards.record import Records
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences, Tensors
from spe_dist.batches.packing import as_tensor, pack
from spe_dist.methods.spe.config import MaskUnit

PAIR_VIEW, CONTEXT_VIEW = 0, 1


@dataclass(frozen=True)
class ShownSentences:
    """One sequence of each of R sentences, without [CLS] and [SEP]; `pieces` and `words` are those of the sentences."""

    ids: NDArray[np.int64]  # of all sequences
    lengths: NDArray[np.int64]  # [R] how many of them are of each
    places: NDArray[np.int64]  # [pieces] which of them each piece has become, by itself or with others
    first_pieces: NDArray[np.int64]  # which of them begins each word of the sequences
    word_boundaries: NDArray[np.int64]  # [R, 6] in words of the sequence


@dataclass(frozen=True)
class PackedViews(Tensors):
    """S sequences, packed, with their spans."""

    packed: PackedSequences
    word_pieces: Tensor  # [W] packed index of each word's first piece
    word_spans: Tensor  # [S, 5, 2] as packed words


def words_in_pair(records: Records, word_boundaries: IntArray) -> NDArray[np.bool_]:
    """Whether each word belongs to the span pair, [words]."""
    sentence = records.word_starts.row_index()
    word = np.arange(len(sentence)) - records.word_starts.offsets[sentence]
    _, first_start, first_end, second_start, second_end, _ = word_boundaries[sentence].T
    return ((word >= first_start) & (word < first_end)) | ((word >= second_start) & (word < second_end))


def pieces_in_pair(records: Records, word_boundaries: IntArray) -> NDArray[np.bool_]:
    """Whether each piece belongs to a word of the span pair, [pieces]."""
    return np.repeat(words_in_pair(records, word_boundaries), records.pieces_per_word)


def show_views(
    pieces: IntArray, in_pair: NDArray[np.bool_], *, mask_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Piece ids of the pair view and of the context view with a [MASK] for each hidden piece, [pieces] each."""
    ids = pieces.astype(np.int64)
    return np.where(in_pair, ids, mask_id), np.where(in_pair, mask_id, ids)


def show_pieces(records: Records, word_boundaries: NDArray[np.int64], ids: NDArray[np.int64]) -> ShownSentences:
    """Sequences of as many pieces as the sentences, with the given ids [pieces]."""
    return ShownSentences(ids, records.pieces.lengths, np.arange(len(ids)), records.first_pieces, word_boundaries)


def show_view(
    records: Records, word_boundaries: NDArray[np.int64], ids: NDArray[np.int64], *, view: int, mask_unit: MaskUnit
) -> ShownSentences:
    """A view whose hidden pieces are [MASK] already, as they are or with one [MASK] left of each hidden span.

    Args:
        records: the sentences.
        word_boundaries: their five spans, [R, 6].
        ids: what the view shows in place of each piece, [pieces].
        view: PAIR_VIEW or CONTEXT_VIEW.
        mask_unit: what becomes one [MASK].
    """
    if mask_unit == "piece":
        return show_pieces(records, word_boundaries, ids)
    boundaries = word_boundaries + records.word_starts.offsets[:-1, None]  # in words of all sentences
    visible = words_in_pair(records, word_boundaries) == (view == PAIR_VIEW)
    words_kept = np.append(visible, True)
    words_kept[boundaries[:, :-1]] = True  # the first word of each span; an empty one begins where the next does
    words_kept = words_kept[:-1]
    pieces_kept = np.repeat(visible, records.pieces_per_word)
    pieces_kept[records.first_pieces[words_kept]] = True
    places = np.cumsum(pieces_kept) - 1
    words_before = offsets_from_lengths(words_kept)[boundaries]
    return ShownSentences(
        ids=ids[pieces_kept],
        lengths=np.bincount(records.pieces.row_index()[pieces_kept], minlength=len(records)),
        places=places,
        first_pieces=places[records.first_pieces[words_kept]],
        word_boundaries=words_before - words_before[:, :1],
    )


def pack_shown(shown: Sequence[ShownSentences], special: SpecialIds) -> tuple[list[NDArray[np.int64]], PackedViews]:
    """Pack all sequences of the first kind, then all of the next.

    Returns:
        Of each kind the packed index of every piece of the sentences [pieces], and the packed sequences.
    """
    ids, lengths = np.concatenate([one.ids for one in shown]), np.concatenate([one.lengths for one in shown])
    indices, packed = pack(ids, lengths, special)
    of_kinds = np.split(indices, np.cumsum([len(one.ids) for one in shown])[:-1])
    word_pieces = [of_kind[one.first_pieces] for of_kind, one in zip(of_kinds, shown, strict=True)]
    boundaries = np.concatenate([one.word_boundaries for one in shown])
    words = boundaries + offsets_from_lengths(boundaries[:, -1])[:-1, None]
    spans = np.stack([words[:, :-1], words[:, 1:]], axis=2)
    views = PackedViews(packed, as_tensor(np.concatenate(word_pieces)), as_tensor(spans))
    return [of_kind[one.places] for of_kind, one in zip(of_kinds, shown, strict=True)], views
