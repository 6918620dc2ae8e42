"""The settings of MTB beyond those that every method shares; docs/papers.md says which choices are the papers'."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Config, Share, Weight

TERMS = ("mtb", "mlm")  # of the loss


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairsConfig:
    """Matching the blanks: are two sentences about the same two entities?"""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    entity_blank: Share
    """Share of the heads and of the tails that are replaced by one blank piece."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MlmConfig:
    """Masked language modelling."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    masked: Share
    """Share of the pieces to predict, markers and blanks not counted; of these 80 % are masked, 10 % replaced, 10 %
    kept."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MtbConfig(Config):
    """A run of MTB."""

    method: Literal["mtb"]
    """Pre-training method."""
    mtb: PairsConfig
    mlm: MlmConfig
