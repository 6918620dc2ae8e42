"""The settings of masked language modelling beyond those that every method shares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Config, Positive, Share, Weight

TERMS = ("mlm", "sbo")  # of the loss


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MaskingConfig:
    """Pieces to predict; of these 80 % are masked, 10 % replaced, 10 % kept."""

    masked: Share
    """Share of pieces to predict."""
    unit: Literal["pieces", "spans"]
    """What is chosen: single pieces (BERT), or spans of whole words (SpanBERT)."""
    geometric_p: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Success probability of the geometric distribution of span lengths."""
    max_words: Positive = 10
    """Length of the longest span, in words."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MlmConfig:
    """Masked language modelling: predict a piece from its own state."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SboConfig:
    """Span boundary objective: predict a piece from the states at the two ends of its span."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    position_size: Positive = 200
    """Size of the embedding of a piece's position in its span."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MaskedLanguageConfig(Config):
    """A run of masked language modelling, or of SpanBERT."""

    method: Literal["mlm"]
    """Pre-training method."""
    masking: MaskingConfig
    mlm: MlmConfig
    sbo: SboConfig
