"""What one forward sees, and the legend of shapes used across the project.

    R  records (sentences) of the forward          S  sequences (SPE: 2 R, all pair views, then all context views)
    P  packed pieces of all sequences, specials    W  words of all sequences
       included, without padding                   H  hidden size of the sentence encoder
    T  hidden pieces to recover (TBO, MEP)         Q  permuted spans (SPO), permuted sentences (PP)
    K  keys in a MoCo queue                        D  size of a key
    C  unmasked copies of sentences (ENPAR)        E  entities of the masked copies (ENPAR)
    N  pairs of an original and a perturbed copy (ACD)

A *packed* tensor holds all sequences one after another; `sequence_starts` [S + 1] says where each begins.
Names of spans always say `word_` (index of a packed word) or `piece_` (index of a packed piece).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

SIZES = ("pieces", "squared_lengths", "padded_pieces", "words", "pairs", "context_words")


@dataclass(frozen=True)
class _Tensors:
    """Tensors that move together: onto a device, into pinned memory, from a loader process to the training process."""

    def to(self, device: torch.device) -> Self:
        """The same on a device; the copy out of pinned memory does not wait."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same in pinned memory; `DataLoader` calls this."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> Self:
        def moved(value: Any) -> Any:
            if isinstance(value, _Tensors):
                return value._map(move)
            return move(value) if isinstance(value, Tensor) else value

        return type(self)(**{field.name: moved(getattr(self, field.name)) for field in fields(self)})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as plain arrays: torch would send each small tensor as a shared file, at several times the cost."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: v.numpy() if isinstance(v, Tensor) else v for name, v in values.items()}
        return _from_arrays, (type(self), arrays)


def _from_arrays(kind: type[_Tensors], arrays: dict[str, Any]) -> _Tensors:
    return kind(**{name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in arrays.items()})


@dataclass(frozen=True)
class PackedSequences(_Tensors):
    """Sequences without padding, as the sentence encoder takes them."""

    piece_ids: Tensor  # [P] int64
    positions: Tensor  # [P] int64, position of the piece in its sequence
    sequence_starts: Tensor  # [S + 1] int32
    longest: int  # pieces of the longest sequence, on the host: no device sync to find it


@dataclass(frozen=True, kw_only=True)
class Batch(_Tensors):
    """One forward of any method, as far as the training loop looks at it."""

    packed: PackedSequences
    word_pieces: Tensor  # [W] packed index of each word's first piece
    word_spans: Tensor  # [pairs, 5, 2] the five spans around each pair, as packed words, half-open
    counts: Tensor  # [terms] int64: how many items each term of the loss is a sum over
    record_ids: Tensor  # [R] which records these are; -1 for those of no step
    digests: Tensor  # [2] of the lanes' record ids, and of all that their sequences show; a sum over the lanes

    @property
    def sizes(self) -> Tensor:
        """How much there is to compute, the `SIZES` [6] int64.

        P, Σ n² over sequences of n pieces, S · longest, W, pairs, and words that a context encoder of its own reads.
        """
        lengths = self.packed.sequence_starts.diff().long()
        padded = len(lengths) * self.packed.longest
        sizes = (len(self.packed.piece_ids), int(lengths @ lengths), padded, len(self.word_pieces))
        return torch.tensor([*sizes, len(self.word_spans), self.context_words])

    @property
    def context_words(self) -> int:
        """Words that an encoder of contexts reads beside the one of spans."""
        return 0


@dataclass(frozen=True, kw_only=True)
class SpanPairBatch(Batch):
    """One forward of SPE (see `methods/spe/collate.py` for how it is made); a pair in each sequence."""

    tbo_anchors: Tensor  # [T] packed index of the first piece of the hidden piece's word
    tbo_offsets: Tensor  # [T] offset of the hidden piece from its anchor, at least 1
    tbo_targets: Tensor  # [T] id of the hidden piece
    tbo_views: Tensor  # [T] 0: predicted in the pair view, 1: in the context view
    spo_spans: Tensor  # [Q] index into the flattened [S * 5] spans
    spo_classes: Tensor  # [Q] which permutation, 0…5
    spo_views: Tensor  # [Q]


@dataclass(frozen=True, kw_only=True)
class EntityPairBatch(Batch):
    """One forward of ENPAR (see `methods/enpar/collate.py`): C unmasked copies with a pair each, then R masked ones."""

    unmasked_words: int  # words of the unmasked copies, which come first; on the host
    acd_originals: Tensor  # [N] which unmasked copy is the original
    acd_perturbed: Tensor  # [N] and which is one that a perturbation made of it
    pp_copies: Tensor  # [Q] unmasked copies whose permutation is to be found
    pp_classes: Tensor  # [Q] which permutation, 0…119
    met_spans: Tensor  # [E, 2] entities of the masked copies, as packed words
    met_types: Tensor  # [E]
    met_hidden: Tensor  # [E] bool: masked or replaced
    mep_pieces: Tensor  # [T] packed index of each piece of the entities masked or replaced
    mep_targets: Tensor  # [T] id of the piece that was there

    @property
    def context_words(self) -> int:
        """Words of the unmasked copies, which the context encoder reads."""
        return self.unmasked_words
