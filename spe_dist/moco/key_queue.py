"""The two queues of keys (SPE paper, Figure 6): of pair views and of context views, K records each.

Every rank holds the same queue, as every rank enqueues the same keys: the step's keys of all ranks in global order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ODD = -7_046_029_254_386_353_131  # 2⁶⁴ / golden ratio: products with it wrap around and spread


@dataclass(frozen=True)
class Negatives:
    """The queue as it stood at the start of the step; empty slots are left out."""

    pair_keys: Tensor  # [K, D]
    context_keys: Tensor  # [K, D]


class KeyQueue:
    """A ring of the K newest records' keys; starts empty.

    Args:
        size: K, in records.
        key_size: D.
        device: where the keys are kept.
    """

    def __init__(self, size: int, key_size: int, *, device: torch.device) -> None:
        self.size = size
        self.pair_keys = torch.zeros(size, key_size, device=device)
        self.context_keys = torch.zeros(size, key_size, device=device)
        self.record_ids = torch.full((size,), -1, device=device)  # whose keys these are, for the digest
        # Records ever enqueued; the next goes to slot `enqueued % size`. On the host: reading it waits for no device.
        self.enqueued = torch.zeros((), dtype=torch.int64)

    @property
    def filled(self) -> int:
        """Slots that hold keys."""
        return min(int(self.enqueued), self.size)

    def negatives(self) -> Negatives:
        """The keys in the queue, without copying; valid until the next `enqueue`."""
        filled = self.filled
        return Negatives(self.pair_keys[:filled], self.context_keys[:filled])

    def enqueue(self, record_ids: Tensor, pair_keys: Tensor, context_keys: Tensor) -> None:
        """Put the keys of the step's records in place of the oldest ones.

        Args:
            record_ids: in global order, [G].
            pair_keys: keys of their pair views, [G, D].
            context_keys: keys of their context views, [G, D].
        """
        newest = slice(max(0, len(pair_keys) - self.size), len(pair_keys))
        first = int(self.enqueued)
        slots = torch.arange(first, first + len(pair_keys), device=pair_keys.device)[newest] % self.size
        self.record_ids[slots] = record_ids[newest]
        self.pair_keys[slots] = pair_keys[newest]
        self.context_keys[slots] = context_keys[newest]
        self.enqueued += len(pair_keys)

    def digest(self) -> str:
        """Changes with the records whose keys are held and with their places, not with the keys' last bits.

        So it is equal at every world size. Waits for the device.
        """
        mixed = torch.arange(1, self.size + 1, device=self.record_ids.device) * _ODD
        weights = mixed ^ (mixed >> 29)
        return f"{int(((self.record_ids + 1) * weights).sum()) % (1 << 64):016x}"

    def state(self) -> dict[str, Tensor]:
        """The live tensors that a checkpoint saves and overwrites, by name."""
        return {
            "record_ids": self.record_ids,
            "pair_keys": self.pair_keys,
            "context_keys": self.context_keys,
            "enqueued": self.enqueued,
        }
