"""The settings of SPE beyond those that every method shares; docs/papers.md says which choices are the paper's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Config, Count, Positive, Share, Weight
from spe_dist.methods.run_summary import MaskUnit
from spe_dist.models.sizes import PairEncoderSizes, SpanEncoderSizes

TERMS = ("tbo_pair", "tbo_context", "spo_pair", "spo_context", "cspo")  # of the loss
# Σ records · keys in the queue, of one direction; sizes of the two views alone, which the key pass encodes
COUNTED = ("comparisons", "view_pieces", "view_squared_lengths", "view_words")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpansConfig:
    """Sampling of span pairs, and the sequences that contain them."""

    geometric_p: Annotated[float, Field(gt=0, lt=1)]
    """Success probability of the geometric distribution of span lengths."""
    max_words: Positive
    """Length of the longest span, in words."""
    mask_unit: MaskUnit = "piece"
    """What one [MASK] replaces in a view: each hidden piece (paper), or each hidden span, whatever its length."""
    whole_sentences: bool = False
    """TBO and SPO read the whole sentence as a third sequence (the paper's text) instead of the two views (the released
    program)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TboConfig:
    """Token boundary objective."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    budget_share: Share
    """Share of a sentence's pieces that are hidden, rounded up to whole pieces."""
    budget_cap: Count
    """Largest number of hidden pieces in a sentence."""
    offset_size: Positive
    """Size of the embedding of a piece's offset from the start of its word."""
    tied: bool = True
    """Decode with the encoder's word embeddings (paper) instead of a matrix of its own (released program)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpoConfig:
    """Span permutation objective."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    max_spans: Positive
    """Largest number of permuted spans in a sentence."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CspoConfig:
    """Contrastive span pair objective."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    queue_size: Positive
    """Number of records whose keys each of the two queues holds."""
    momentum: Share
    """Share of the key encoder that each step keeps: key = momentum * key + (1 - momentum) * query."""
    temperature: Annotated[float, Field(gt=0)]
    """Similarities are divided by this before the softmax."""
    normalize: bool = True
    """Scale vectors to length 1 before they are compared. The released program does not, and its loss explodes."""
    head: bool = True
    """Compare the outputs of an MLP head (MoCo v2) instead of the pair vectors themselves."""


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
    """Dropout of the span encoder, the pair encoder and all heads."""
