"""The settings of ENPAR beyond those every method shares; docs/papers.md says which choices are the paper's."""

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
    """What happens to entities in the copy that MET and MEP see; the rest is kept."""

    masked: Share
    """Share of entities whose pieces are masked."""
    replaced: Share
    """Share of entities replaced by others."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MetConfig:
    """Masked entity typing."""

    weight: Weight


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MepConfig:
    """Masked entity prediction."""

    weight: Weight


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AcdConfig:
    """Adversarial context discrimination."""

    weight: Weight
    perturbed: Annotated[int, Field(ge=1, le=5)]
    """Perturbed copies of a sentence, of the five that there are."""
    max_shift: Positive
    """Words that an entity is shifted, unless there is room for fewer."""
    margin: Annotated[float, Field(gt=0)]
    """Of the hinge."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PpConfig:
    """Permutation prediction."""

    weight: Weight
    permutations: Annotated[int, Field(ge=2, le=120)]
    """Orders of a sentence, its own among them (n_p)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EnparConfig(Config):
    """A run of ENPAR."""

    method: Literal["enpar"]
    entity_encoder: SpanEncoderSizes
    context_encoder: SpanEncoderSizes
    pair_encoder: EntityPairEncoderSizes
    masking: EntityMaskingConfig
    met: MetConfig
    mep: MepConfig
    acd: AcdConfig
    pp: PpConfig
    heads_dropout: Share
    """Of entity, context and pair encoder."""
