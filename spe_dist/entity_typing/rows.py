"""Sentences with a mention as pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_shards.ragged import IntArray, Ragged
from data_shards.text.word_pieces import WordPieces
from spe_dist.batches.batch import PackedSequences
from spe_dist.documents.pooled_vectors import PooledPieces
from spe_dist.entity_typing.typed_mention import TypedMention
from spe_dist.finetuning.sequence_rows import SequenceRows, cut_sentences

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
    """Cut sentences into pieces (see `cut_sentences`).

    Args:
        mentions: with their sentences.
        types: in the order of the model's.
        word_pieces: tokenizer of the encoder.
        max_pieces: longest sequence, [CLS] and [SEP] included.
    """
    number_of = {name: number for number, name in enumerate(types)}
    gold = [[number_of[name] for name in one.types if name in number_of] for one in mentions]
    asked = []
    for one in mentions:
        mention, begin = one.mention or ("",), len(one.left)
        asked.append(((*one.left, *mention, *one.right), [(begin, begin + len(mention))]))
    cut = list(cut_sentences(asked, word_pieces, max_pieces - _SPECIALS))
    return TypingRows(
        mentions,
        Ragged.from_lengths(np.concatenate([one.ids for one in cut]), np.array([len(one.ids) for one in cut])),
        np.array([one.spans[0] for one in cut], dtype=np.int64),
        np.array([one.is_cut for one in cut], dtype=np.bool_),
        word_pieces.special_ids,
        Ragged.from_lengths(
            np.array([number for row in gold for number in row], dtype=np.int64), np.array([len(row) for row in gold])
        ),
        len(types),
    )
