"""What a method says of a run of its own to those who export it and write its card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spe_dist.models.sizes import EntityPairEncoderSizes, PairEncoderSizes, SpanEncoderSizes

Pooling = Literal["mean"]
"""How vectors of spans come about without a span encoder: as means of the last layer's states."""
MaskUnit = Literal["piece", "span"]
"""What becomes one [MASK] in the views of contrast: each hidden piece, or each hidden span."""


@dataclass(frozen=True)
class Objective:
    """One of a run's objectives; `key` is its section in the configuration and the prefix of its metrics."""

    key: str
    name: str
    weight: float


@dataclass(frozen=True)
class ConfigWarning:
    """Something about a configuration that can be trained, but will hardly do what its settings say."""

    what: str
    cure: str

    def __str__(self) -> str:
        return f"warning: {self.what}; {self.cure}"


@dataclass(frozen=True)
class RunSummary:
    """What was trained, and how big it is; the parts have the names of `SpanPairModel`'s."""

    method: str
    paper: str
    trained_on: str
    objectives: tuple[Objective, ...]
    span_encoder: SpanEncoderSizes | None = None
    context_encoder: SpanEncoderSizes | None = None
    pair_encoder: PairEncoderSizes | EntityPairEncoderSizes | None = None
    head_size: int | None = None
    normalize: bool = False
    pooling: Pooling | None = None
    markers: bool = False
    mask_unit: MaskUnit = "piece"
