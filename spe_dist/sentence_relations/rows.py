"""Sentences as pieces with markers around both entities: [CLS] … [M1] head [M2] … [M3] tail [M4] … [SEP]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.ragged import IntArray, Ragged
from data_shards.text.word_pieces import WordPieces
from spe_dist.batches.batch import PackedSequences
from spe_dist.documents.pooled_vectors import PooledPieces
from spe_dist.finetuning.sequence_rows import SequenceRows, cut_sentences
from spe_dist.sentence_relations.marked_sentence import MarkedSentence

MARKERS = 4  # rows of the word embeddings behind the tokenizer's vocabulary: head begins, ends, tail begins, ends
_SPECIALS = 2  # [CLS] and [SEP]


@dataclass(frozen=True)
class RelationRows(SequenceRows[MarkedSentence]):
    """A row for each sentence; its pieces include markers, its spans are head and tail."""

    classes: NDArray[np.int64]  # [rows], -1 for a relation that the model does not know

    def batch(self, rows: IntArray, device: torch.device) -> tuple[PackedSequences, PooledPieces, Tensor]:
        """What a forward sees: sequences, heads and tails in turn, classes."""
        packed, pooled = self.pack(rows)
        return packed.to(device), pooled.to(device), torch.from_numpy(self.classes[rows]).to(device)


def encode(
    sentences: Sequence[MarkedSentence],
    classes: Sequence[str | None],
    word_pieces: WordPieces,
    *,
    max_pieces: int,
    pooling: str,
) -> RelationRows:
    """Cut sentences into pieces (see `cut_sentences`), with markers around their entities.

    Args:
        sentences: with their entities.
        classes: relations in the order of the model's classes.
        word_pieces: tokenizer of the encoder; its vocabulary says where markers begin.
        max_pieces: longest sequence, [CLS], [SEP] and markers included.
        pooling: see `SentenceModelConfig`.
    """
    number_of = {relation: number for number, relation in enumerate(classes)}
    asked = [(sentence.words, (sentence.head, sentence.tail)) for sentence in sentences]
    rows, pooled, is_cut = [], [], []
    for cut in cut_sentences(asked, word_pieces, max_pieces - _SPECIALS - MARKERS):
        marked, of_entities, markers = _mark(cut.ids, cut.spans, word_pieces.vocab_size)
        rows.append(marked)
        pooled.append(of_entities if pooling == "mean" else [(place, place + 1) for place in markers])
        is_cut.append(cut.is_cut)
    return RelationRows(
        sentences,
        Ragged.from_lengths(np.concatenate(rows), np.array([len(row) for row in rows])),
        np.array(pooled, dtype=np.int64),
        np.array(is_cut, dtype=np.bool_),
        word_pieces.special_ids,
        np.array([number_of.get(sentence.relation, -1) for sentence in sentences], dtype=np.int64),
    )


def _mark(
    ids: IntArray, spans: Sequence[tuple[int, int]], first_marker: int
) -> tuple[NDArray[np.int64], list[tuple[int, int]], list[int]]:
    """Put a marker at each end of both spans.

    Returns:
        The pieces; where the spans are now, without their own markers; where their first markers are.
    """
    ends = [
        (place, side == 0, 2 * number + side) for number, span in enumerate(spans) for side, place in enumerate(span)
    ]
    ends.sort()  # at the same place an entity ends before another one begins
    places = np.array([place for place, _, _ in ends])
    now = {marker: place + before for before, (place, _, marker) in enumerate(ends)}
    marked = np.insert(ids.astype(np.int64), places, [first_marker + marker for _, _, marker in ends])
    return marked, [(now[0] + 1, now[1]), (now[2] + 1, now[3])], [now[0], now[2]]
