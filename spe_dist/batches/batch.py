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

SIZES = ("pieces", "squared_lengths", "padded_pieces", "words")


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the host on a device. From memory that is not pinned, a GPU's step would wait for the copy."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Tensors:
    """Tensors that move together: onto a device, into pinned memory, from a loader process to the training process."""

    def to(self, device: torch.device) -> Self:
        """The same on a device; the copy out of pinned memory does not wait."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same in pinned memory; `DataLoader` calls this."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> Self:
        def moved(value: Any) -> Any:
            if isinstance(value, Tensors):
                return value._map(move)
            return move(value) if isinstance(value, Tensor) else value

        return type(self)(**{field.name: moved(getattr(self, field.name)) for field in fields(self)})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as plain arrays: torch would send each small tensor as a shared file, at several times the cost."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: v.numpy() if isinstance(v, Tensor) else v for name, v in values.items()}
        return _from_arrays, (type(self), arrays)


def _from_arrays(kind: type[Tensors], arrays: dict[str, Any]) -> Tensors:
    return kind(**{name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in arrays.items()})


@dataclass(frozen=True)
class PackedSequences(Tensors):
    """Sequences without padding, as the sentence encoder takes them."""

    piece_ids: Tensor  # [P] int64
    positions: Tensor  # [P] int64, position of the piece in its sequence
    sequence_starts: Tensor  # [S + 1] int32
    longest: int  # pieces of the longest sequence, on the host: no device sync to find it
    segments: Tensor | None = None  # [P] int64, 0 or 1: which of two texts a piece belongs to; None: there is one


@dataclass(frozen=True, kw_only=True)
class Batch(Tensors):
    """One forward of any method, as far as the training loop looks at it; a method adds its own tensors."""

    packed: PackedSequences
    word_pieces: Tensor  # [W] packed index of each word's first piece
    counts: Tensor  # [terms] int64: how many items each term of the loss is a sum over
    record_ids: Tensor  # [R] which records these are; -1 for those of no step
    digests: Tensor  # [2] of the lanes' record ids, and of all that their sequences show; a sum over the lanes

    @property
    def sizes(self) -> Tensor:
        """How much there is to compute, the `SIZES` [4] int64: P, Σ n² over sequences of n pieces, S · longest, W."""
        lengths = self.packed.sequence_starts.diff().long()
        padded = len(lengths) * self.packed.longest
        return torch.tensor([len(self.packed.piece_ids), int(lengths @ lengths), padded, len(self.word_pieces)])
