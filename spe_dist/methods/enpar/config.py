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
    """Share of entities that are replaced by another entity."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MetConfig:
    """Masked entity typing."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MepConfig:
    """Masked entity prediction."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AcdConfig:
    """Adversarial context discrimination."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    perturbed: Annotated[int, Field(ge=1, le=5)]
    """Number of perturbed copies of a sentence, out of five kinds."""
    max_shift: Positive
    """Number of words by which an entity is shifted; fewer where the sentence has less room."""
    margin: Annotated[float, Field(gt=0)]
    """Margin of the hinge loss: the score of an original should exceed that of its copy by this much."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PpConfig:
    """Permutation prediction."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    permutations: Annotated[int, Field(ge=2, le=120)]
    """Number of word orders of a sentence to classify, the original order included (n_p)."""


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
    """Dropout of the entity encoder, the context encoder and the pair encoder."""
