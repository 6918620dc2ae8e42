"""From the space of span pairs to the space of contrast (SPE paper: the MLP head of MoCo v2)."""

from __future__ import annotations

from torch import Tensor, nn

from spe_dist.models.transform_block import TransformBlock


class ProjectionHead(nn.Module):
    """Two transform blocks, [S, size_in] → [S, D]."""

    def __init__(self, size_in: int, key_size: int, *, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            TransformBlock(size_in, key_size, dropout=dropout), TransformBlock(key_size, key_size, dropout=dropout)
        )

    def forward(self, pair_vectors: Tensor) -> Tensor:
        """Project pair vectors to queries or keys."""
        return self.blocks(pair_vectors)
