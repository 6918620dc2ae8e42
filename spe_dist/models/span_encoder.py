"""Vectors of spans (SPE paper): a CNN over the words of the span, max-pooling and an MLP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spe_dist.kernels.span_pool import span_gelu_pool
from spe_dist.models.transform_block import TransformBlock


class SpanEncoder(nn.Module):
    """Filters of several sizes, GELU, maximum over the span, concatenation, then a transform block.

    Args:
        hidden_size: size of word vectors, H.
        kernel_sizes: words per filter.
        channels: filters per kernel size.
        size: size of a span vector.
        dropout: after pooling and in the block.
    """

    def __init__(
        self, hidden_size: int, *, kernel_sizes: Sequence[int], channels: int, size: int, dropout: float
    ) -> None:
        super().__init__()
        self.kernel_sizes, self.size = tuple(kernel_sizes), size
        self.taps = nn.Linear(hidden_size, sum(kernel_sizes) * channels, bias=False)
        self.bias = nn.Parameter(torch.empty(len(kernel_sizes) * channels))
        self.dropout = nn.Dropout(dropout)
        self.block = TransformBlock(len(kernel_sizes) * channels, size, dropout=dropout)
        self._initialise_as_convolutions(hidden_size, channels)

    def forward(self, words: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Encode half-open word spans.

        Args:
            words: word vectors, [W, H].
            starts: first word of each span, [spans].
            ends: one past its last word, [spans]; an empty span gives the vector of a pooled zero, to be masked out.

        Returns:
            [spans, size].
        """
        pooled = span_gelu_pool(self.taps(words), self.bias, starts, ends, kernel_sizes=self.kernel_sizes)
        return self.block(self.dropout(pooled))

    def _initialise_as_convolutions(self, hidden_size: int, channels: int) -> None:
        """As `nn.Conv1d` would be: uniform within 1/√fan_in of each filter."""
        rows, biases = self.taps.weight.split([k * channels for k in self.kernel_sizes]), self.bias.split(channels)
        with torch.no_grad():
            for size, weight, bias in zip(self.kernel_sizes, rows, biases, strict=True):
                bound = (hidden_size * size) ** -0.5
                weight.uniform_(-bound, bound)
                bias.uniform_(-bound, bound)
