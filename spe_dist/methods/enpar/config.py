"""The settings of ENPAR beyond those that every method shares; docs/papers.md says which choices are the paper's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Config, Positive, Share, Weight
from spe_dist.models.sizes import EntityPairEncoderSizes, SpanEncoderSizes

TERMS = ("met", "mep", "acd", "pp")  # of the loss
COUNTED = ("pairs", "context_words")  # unmasked copies, and their words, which the context encoder reads


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EntityMaskingConfig:
    """Entities in the copy for MET and MEP; the rest is kept."""

    masked: Share
    """Share of entities whose pieces are masked."""
    replaced: Share
    """Share of entities that are replaced by others."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MetConfig:
    """Masked entity typing."""

    weight: Weight
    """Weight in the total loss; 0 switches the objective off."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MepConfig:
    """Masked entity prediction."""

    weight: Weight
    """Weight in the total loss; 0 switches the objective off."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AcdConfig:
    """Adversarial context discrimination."""

    weight: Weight
    """Weight in the total loss; 0 switches the objective off."""
    perturbed: Annotated[int, Field(ge=1, le=5)]
    """Perturbed copies per sentence, of the five possible ones."""
    max_shift: Positive
    """Maximum number of words by which an entity is shifted."""
    margin: Annotated[float, Field(gt=0)]
    """Margin of the hinge loss."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PpConfig:
    """Permutation prediction."""

    weight: Weight
    """Weight in the total loss; 0 switches the objective off."""
    permutations: Annotated[int, Field(ge=2, le=120)]
    """Number of orders of a sentence, including the original (n_p)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EnparConfig(Config):
    """A run of ENPAR."""

    method: Literal["enpar"]
    """Pre-training method."""
    entity_encoder: SpanEncoderSizes
    context_encoder: SpanEncoderSizes
    pair_encoder: EntityPairEncoderSizes
    masking: EntityMaskingConfig
    met: MetConfig
    mep: MepConfig
    acd: AcdConfig
    pp: PpConfig
    heads_dropout: Share
    """Dropout of entity, context and pair encoder."""
