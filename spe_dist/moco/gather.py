"""Rows of all ranks in global order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def gather_in_global_order(rows: Tensor, rows_of_ranks: Sequence[int]) -> Tensor:
    """Put every rank's rows one after another, rank by rank; ranks hold contiguous lanes, so this is lane order.

    Args:
        rows: this rank's, [n, ...].
        rows_of_ranks: how many rows each rank has; they may differ.

    Returns:
        [sum of rows_of_ranks, ...], equal on every rank.
    """
    if len(rows_of_ranks) == 1:
        return rows
    most = max(rows_of_ranks)
    padded = rows.new_zeros(most, *rows.shape[1:])
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in rows_of_ranks]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:count] for part, count in zip(gathered, rows_of_ranks, strict=True)])
