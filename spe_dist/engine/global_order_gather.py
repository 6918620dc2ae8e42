"""Rows of all ranks in global order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class GlobalOrderGather:
    """Put every rank's rows one after another, rank by rank; ranks hold contiguous lanes, so this is lane order.

    It is begun here and goes on while the rank computes; every rank must begin it, and then wait for it.

    Args:
        rows: this rank's, [n, ...].
        rows_of_ranks: how many rows each rank has; they may differ.
    """

    def __init__(self, rows: Tensor, rows_of_ranks: Sequence[int]) -> None:
        self._rows_of_ranks = rows_of_ranks
        self._work: dist.Work | None = None
        if len(rows_of_ranks) == 1:
            self._gathered = [rows]
            return
        padded = rows.new_zeros(max(rows_of_ranks), *rows.shape[1:])
        padded[: len(rows)] = rows
        self._gathered = [torch.empty_like(padded) for _ in rows_of_ranks]
        self._work = dist.all_gather(self._gathered, padded, async_op=True)

    def wait(self) -> Tensor:
        """The rows of all ranks, [sum of rows_of_ranks, ...], equal on every rank."""
        if self._work is None:
            return self._gathered[0]
        self._work.wait()
        return torch.cat([part[:count] for part, count in zip(self._gathered, self._rows_of_ranks, strict=True)])
