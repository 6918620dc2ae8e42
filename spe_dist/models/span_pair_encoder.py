"""Vectors of span pairs (SPE paper): position-aware attention over the five spans."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spe_dist.models.transform_block import INITIAL_STD

# Signed distance, in spans, from left, first, middle, second, right to the first and to the second span of the pair.
_DISTANCES = ((-1, 0, 1, 2, 3), (-3, -2, -1, 0, 1))
_LARGEST = 3


class SpanPairEncoder(nn.Module):
    """e_i = v · tanh(W_h h_i + W_q h_[CLS] + W_s1 p_i1 + W_s2 p_i2), softmax over the spans that are not empty.

    Args:
        span_size: size of span vectors, and of the result.
        hidden_size: size of the [CLS] state, H.
        attention_size: size of the space of the attention.
        position_size: size of a position embedding; one table serves both distances.
        dropout: dropout of the result.
    """

    distances: Tensor

    def __init__(
        self, span_size: int, hidden_size: int, *, attention_size: int, position_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.size = span_size
        self.positions = nn.Embedding(2 * _LARGEST + 1, position_size)
        self.from_span = nn.Linear(span_size, attention_size, bias=False)
        self.from_sentence = nn.Linear(hidden_size, attention_size, bias=False)
        self.from_positions = nn.Linear(2 * position_size, attention_size, bias=False)  # [W_s1 W_s2]
        self.score = nn.Linear(attention_size, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("distances", torch.tensor(_DISTANCES).T + _LARGEST, persistent=False)
        for module in (self.positions, self.from_span, self.from_sentence, self.from_positions, self.score):
            nn.init.normal_(module.weight, std=INITIAL_STD)

    def forward(self, spans: Tensor, sentences: Tensor, empty: Tensor) -> Tensor:
        """Encode the pair of each sequence.

        Args:
            spans: vectors of left, first, middle, second and right span, [S, 5, span_size].
            sentences: states of [CLS], [S, H].
            empty: which spans hold no word and get no attention, [S, 5] bool.

        Returns:
            [S, span_size].
        """
        positions = self.from_positions(self.positions(self.distances).flatten(1))  # [5, attention_size]
        energy = self.score(torch.tanh(self.from_span(spans) + self.from_sentence(sentences)[:, None] + positions))
        attention = energy.squeeze(2).float().masked_fill(empty, float("-inf")).softmax(dim=1).to(spans.dtype)
        return self.dropout((attention[:, :, None] * spans).sum(dim=1))

    def from_parts(self, pairs: Tensor, contexts: Tensor, sentences: Tensor, empty: Tensor) -> Tensor:
        """The same from two encoders' vectors: spans of each pair [M, 2, span_size], and contexts [M, 3, span_size].

        Args:
            pairs: vectors of first and second span.
            contexts: vectors of left, middle and right.
            sentences: states of [CLS], [M, H].
            empty: which contexts hold no word, [M, 3] bool.
        """
        first, second = pairs.unbind(1)
        left, middle, right = contexts.unbind(1)
        of_five = torch.zeros(len(pairs), 5, dtype=torch.bool, device=empty.device)
        of_five[:, ::2] = empty
        return self(torch.stack([left, first, middle, second, right], dim=1), sentences, empty=of_five)
