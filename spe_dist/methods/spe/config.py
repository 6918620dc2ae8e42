"""The settings of SPE beyond those every method shares; docs/papers.md says which choices are the paper's."""

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
    """How span pairs are drawn."""

    geometric_p: Annotated[float, Field(gt=0, lt=1)]
    """Success probability of the geometric distribution of lengths."""
    max_words: Positive
    """Longest span."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TboConfig:
    """Token boundary objective."""

    weight: Weight
    budget_share: Share
    """Hidden pieces as a share of a sentence's pieces, rounded up."""
    budget_cap: Count
    """Hidden pieces per sentence, at most."""
    offset_size: Positive
    """Size of the embedding of a piece's offset in its word."""
    tied: bool = True
    """Decode with the encoder's word embeddings (paper) instead of a matrix of its own (released program)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpoConfig:
    """Span permutation objective."""

    weight: Weight
    max_spans: Positive
    """Spans permuted per sentence, at most."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CspoConfig:
    """Contrastive span pair objective."""

    weight: Weight
    queue_size: Positive
    """Records in each of the two queues."""
    momentum: Share
    temperature: Annotated[float, Field(gt=0)]
    normalize: bool = True
    """Contrast vectors of length 1 (the released program does not, and its loss explodes)."""
    head: bool = True
    """Contrast behind an MLP head (MoCo v2) instead of the pair vectors themselves."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpeConfig(Config):
    """A run of SPE."""

    method: Literal["spe"]
    spans: SpansConfig
    span_encoder: SpanEncoderSizes
    pair_encoder: PairEncoderSizes
    tbo: TboConfig
    spo: SpoConfig
    cspo: CspoConfig
    heads_dropout: Share
    """Of span and pair encoder and of all heads."""
