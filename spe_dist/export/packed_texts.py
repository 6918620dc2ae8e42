"""Marked texts → one packed forward: [CLS] pieces [SEP] of every text, one after another (legend: batches/batch.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data_shards.ragged import offsets_from_lengths
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences
from spe_dist.batches.packing import pack
from spe_dist.export.marked_text import MarkedText

_NOTHING = np.zeros(0, dtype=np.int64)  # so that no text at all can be packed, too


def pack_texts(texts: Sequence[MarkedText], special: SpecialIds) -> tuple[PackedSequences, Tensor]:
    """The packed sequences, and the packed index of each word's first piece, [W]."""
    lengths = np.array([len(text.piece_ids) for text in texts], dtype=np.int64)
    places, packed = pack(np.concatenate([_NOTHING, *(text.piece_ids for text in texts)]), lengths, special)
    words = [first + text.word_starts for first, text in zip(offsets_from_lengths(lengths), texts, strict=False)]
    return packed, torch.from_numpy(places[np.concatenate([_NOTHING, *words])])


def pack_word_spans(texts: Sequence[MarkedText], word_spans: Sequence[Sequence], *, shape: tuple[int, ...]) -> Tensor:
    """Word spans of each text, each of some shape, as packed words, [N, *shape]."""
    num_words = np.array([len(text.word_starts) for text in texts], dtype=np.int64)
    rows = [np.asarray(of_text, dtype=np.int64).reshape(-1, *shape) for of_text in word_spans]
    shifted = [spans + first for spans, first in zip(rows, offsets_from_lengths(num_words), strict=False)]
    return torch.from_numpy(np.concatenate([_NOTHING.reshape(0, *shape), *shifted]))
