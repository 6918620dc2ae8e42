"""Sentences with a mention as pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_shards.ragged import IntArray, Ragged, offsets_from_lengths
from data_shards.text.word_pieces import WordPieces
from spe_dist.batches.batch import PackedSequences
from spe_dist.documents.pooled_vectors import PooledPieces
from spe_dist.entity_typing.typed_mention import TypedMention
from spe_dist.finetuning.kept_pieces import keep_around
from spe_dist.finetuning.sequence_rows import SequenceRows

_SPECIALS = 2  # [CLS] and [SEP]


@dataclass(frozen=True)
class TypingRows(SequenceRows[TypedMention]):
    """A row for each mention."""

    gold: Ragged  # numbers of the types that the model knows, [rows]
    num_types: int

    def batch(self, rows: IntArray, device: torch.device) -> tuple[PackedSequences, PooledPieces, Tensor]:
        """What a forward sees: sequences, mentions, gold types as 0 and 1, [rows, types]."""
        packed, mentions = self.pack(rows)
        gold, types = torch.zeros(len(rows), self.num_types), self.gold.take(rows)
        gold[torch.from_numpy(types.row_index()), torch.from_numpy(types.values)] = 1
        return packed.to(device), mentions.to(device), gold.to(device)


def encode(
    mentions: Sequence[TypedMention], types: Sequence[str], word_pieces: WordPieces, *, max_pieces: int
) -> TypingRows:
    """Cut sentences into pieces, and long ones to what is nearest to the mention.

    A mention of which the tokenizer makes nothing is one unknown piece.

    Args:
        mentions: with their sentences.
        types: in the order of the model's.
        word_pieces: of the encoder.
        max_pieces: longest sequence, [CLS] and [SEP] included.
    """
    parts = [part for one in mentions for part in (one.left, one.mention, one.right)]
    pieces = word_pieces.encode_words([word for part in parts for word in part])
    bounds = pieces.offsets[offsets_from_lengths(np.array([len(part) for part in parts], dtype=np.int64))]
    number_of = {name: number for number, name in enumerate(types)}
    rows, spans, gold, is_cut = [], [], [], []
    for number, mention in enumerate(mentions):
        first, start, end, last = bounds[3 * number : 3 * number + 4].tolist()
        ids, start, end = pieces.values[first:last], start - first, end - first
        if start == end:
            ids, end = np.insert(ids, start, word_pieces.special_ids.unk), start + 1
        kept = keep_around(len(ids), [(start, end)], max_pieces - _SPECIALS)
        rows.append(ids[kept])
        spans.append(np.searchsorted(kept, (start, end)))
        gold.append([number_of[name] for name in mention.types if name in number_of])
        is_cut.append(len(kept) < len(ids))
    return TypingRows(
        mentions,
        Ragged.from_lengths(np.concatenate(rows), np.array([len(row) for row in rows])),
        np.array(spans, dtype=np.int64),
        np.array(is_cut, dtype=np.bool_),
        word_pieces.special_ids,
        Ragged.from_lengths(
            np.array([number for row in gold for number in row], dtype=np.int64), np.array([len(row) for row in gold])
        ),
        len(types),
    )
