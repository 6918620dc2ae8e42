"""The block that BERT's own prediction head is made of, and that every head here is made of."""

from __future__ import annotations

from torch import Tensor, nn

INITIAL_STD = 0.02
LAYER_NORM_EPS = 1e-12


class TransformBlock(nn.Module):
    """Linear → GELU → LayerNorm → dropout, [..., size_in] → [..., size_out]."""

    def __init__(self, size_in: int, size_out: int, *, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(size_in, size_out)
        self.norm = nn.LayerNorm(size_out, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.linear.weight, std=INITIAL_STD)
        nn.init.zeros_(self.linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Transform the last dimension."""
        return self.dropout(self.norm(nn.functional.gelu(self.linear(inputs))))
