"""Sizes of the parts between the sentence encoder and the objectives, as recipes and exported models name them."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpanEncoderSizes:
    """Sizes of the span CNN and its MLP."""

    kernel_sizes: tuple[Positive, ...]
    """Filter widths in words."""
    channels: Positive
    """Number of filters per width."""
    size: Positive
    """Size of a span vector."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairEncoderSizes:
    """Sizes of the attention over the five spans."""

    attention_size: Positive
    """Size of the space in which spans are compared."""
    position_size: Positive
    """Size of the embedding of a span's distance to the pair."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EntityPairEncoderSizes:
    """Size of the pair encoder."""

    size: Positive
    """Size of a pair vector."""
