"""The settings of ERICA beyond those that every method shares; docs/papers.md says which choices are the paper's."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Config, Count, Part, Positive, Share, Weight

TERMS = ("ed", "rd", "mlm")  # of the loss
COUNTED = ("candidates", "comparisons")  # entities that ED ranks; products of an anchor with an entity in RD
RelationTerm = Literal["ss", "sc", "cs", "cc"]
Temperature = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EdConfig:
    """Entity discrimination."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    temperature: Temperature
    """Temperature that divides cosine similarities."""
    mask_true_tails: bool = True
    """Exclude other true tails of the same head and relation from the candidates. False: they are negatives, as in the
    paper."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RdConfig:
    """Relation discrimination."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    temperature: Temperature
    """Temperature that divides cosine similarities."""
    scope: Literal["step", "lane"] = "step"
    """Facts that are compared with each other: those of all documents of a step, or those of a lane."""
    positives: Literal["one", "all"] = "one"
    """Positives of each fact: one other fact of its relation, drawn at random, or all of them, each in a loss term of
    its own (as in CP)."""
    negatives: Positive | Literal["all"] = 64
    """Number of negatives drawn for each fact; `all` takes every allowed one."""
    na_pairs: Count = 32
    """Maximum number of unrelated entity pairs of a document that serve as negatives."""
    terms: tuple[RelationTerm, ...] = ("ss", "sc", "cs", "cc")
    """Kinds of the two facts of a positive pair: s (single: head and tail share a sentence) or c (cross-sentence)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MlmConfig:
    """Masked language modelling."""

    weight: Weight
    """Weight of this objective in the loss; 0 switches it off."""
    masked: Share
    """Share of the pieces outside of mentions to predict; of these 80 % are masked, 10 % replaced, 10 % kept."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProbeConfig:
    """Probe on held-out documents (as `spe probe --documents`), run at every line of metrics."""

    documents: str | None = None
    """File of annotated documents (DocRED or another format of annotated data). Null: no probe."""
    count: Annotated[int, Field(ge=2)] = 100
    """Number of documents to probe. A hundred take each rank about as long as a step of 64 documents."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EricaConfig(Config):
    """A run of ERICA."""

    method: Literal["erica"]
    """Pre-training method."""
    pooling: Literal["mean", "marker", "fact_marker"] = "mean"
    """Vector of a mention: mean of the states of its pieces, or state of a marker piece that is put before it. With
    `fact_marker`, each sentence is a sequence, in which the head and the tail of one fact are marked (CP)."""
    entity_blank: Share = 0.0
    """With pooling `fact_marker`: share of the heads and of the tails that are replaced by one blank piece."""
    relations: Part = 1.0
    """Share of the relations to learn from, selected by the seed. Facts of all other relations are left out; their
    pairs do not serve as negatives."""
    ed: EdConfig
    rd: RdConfig
    mlm: MlmConfig
    probe: ProbeConfig = field(default_factory=ProbeConfig)
