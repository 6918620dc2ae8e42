"""The settings of SPE beyond those that every method shares; docs/papers.md says which choices are the paper's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Config, Count, Positive, Share, Weight
from spe_dist.models.sizes import PairEncoderSizes, SpanEncoderSizes

TERMS = ("tbo_pair", "tbo_context", "spo_pair", "spo_context", "cspo")  # of the loss
COUNTED = ("comparisons",)  # Σ records · keys in the queue, of one direction


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpansConfig:
    """Sampling of span pairs."""

    geometric_p: Annotated[float, Field(gt=0, lt=1)]
    """Parameter of the geometric distribution of span lengths."""
    max_words: Positive
    """Maximum span length in words."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TboConfig:
    """Token boundary objective."""

    weight: Weight
    """Weight in the total loss; 0 switches the objective off."""
    budget_share: Share
    """Pieces to hide, as a share of a sentence's pieces (rounded up)."""
    budget_cap: Count
    """Maximum number of hidden pieces per sentence."""
    offset_size: Positive
    """Size of the embedding of a piece's offset in its word."""
    tied: bool = True
    """Decode with the encoder's word embeddings (paper) instead of a separate matrix (released program)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpoConfig:
    """Span permutation objective."""

    weight: Weight
    """Weight in the total loss; 0 switches the objective off."""
    max_spans: Positive
    """Maximum number of permuted spans per sentence."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CspoConfig:
    """Contrastive span pair objective."""

    weight: Weight
    """Weight in the total loss; 0 switches the objective off."""
    queue_size: Positive
    """Records in each of the two queues of keys."""
    momentum: Share
    """Momentum of the key encoder."""
    temperature: Annotated[float, Field(gt=0)]
    """Temperature of the contrastive loss."""
    normalize: bool = True
    """Contrast unit-length vectors. The released program does not, and its loss explodes."""
    head: bool = True
    """Apply an MLP head (MoCo v2) before the contrastive loss, instead of contrasting pair vectors directly."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpeConfig(Config):
    """A run of SPE."""

    method: Literal["spe"]
    """Pre-training method."""
    spans: SpansConfig
    span_encoder: SpanEncoderSizes
    pair_encoder: PairEncoderSizes
    tbo: TboConfig
    spo: SpoConfig
    cspo: CspoConfig
    heads_dropout: Share
    """Dropout of span encoder, pair encoder and all heads."""
