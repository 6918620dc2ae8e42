"""Sizes of span and pair encoders, as configurations and exported models name them."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpanEncoderSizes:
    """Of the span CNN and its MLP."""

    kernel_sizes: tuple[Positive, ...]
    channels: Positive
    size: Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairEncoderSizes:
    """Of the attention over the five spans."""

    attention_size: Positive
    position_size: Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EntityPairEncoderSizes:
    """Of ENPAR's concatenation of entities and contexts."""

    size: Positive
    """Of a pair vector."""
