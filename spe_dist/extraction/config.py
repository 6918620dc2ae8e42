"""The settings of fine-tuning for joint extraction."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Count, Share
from spe_dist.extraction.model.architecture import Architecture
from spe_dist.finetuning.config import FinetuneConfig

if TYPE_CHECKING:
    from spe_dist.extraction.scores.joint_scoring import JointScoring
    from spe_dist.extraction.task import JointExtraction


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig(Architecture):
    """Architecture above the sentence encoder, independent of the starting weights."""

    dropout: Share
    """Dropout of word states, span and pair encoders and classifiers."""
    type_constraints: bool = True
    """Predict a relation only between entity types that have this relation in the training data."""

    @property
    def architecture(self) -> Architecture:
        """What a trained model keeps."""
        return Architecture(**{each.name: getattr(self, each.name) for each in fields(Architecture)})


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SamplingConfig:
    """Scheduled sampling (see `scheduled_sampling.py`)."""

    gold_epochs: Count
    """Last epoch, counted from 0, that trains on gold spans and entities only."""
    k: Annotated[float, Field(gt=0)]
    """Speed of the decay: with a larger k, gold is used for longer."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExtractionConfig(FinetuneConfig):
    """A fine-tuning for joint extraction of entities and relations."""

    task: Literal["extraction"] = "extraction"
    model: ModelConfig
    sampling: SamplingConfig

    def check(self) -> None:
        """Raise a UserError if parts of the model do not fit each other."""
        self.model.check()

    @classmethod
    def task_class(cls) -> type[JointExtraction]:
        """What trains and predicts."""
        from spe_dist.extraction.task import JointExtraction

        return JointExtraction

    @classmethod
    def scoring(cls) -> JointScoring:
        """How its predictions are read and scored."""
        from spe_dist.extraction.scores.joint_scoring import JointScoring

        return JointScoring()
