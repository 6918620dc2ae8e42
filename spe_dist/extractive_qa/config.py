"""The settings of fine-tuning for extractive question answering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Positive
from spe_dist.finetuning.config import FinetuneConfig

if TYPE_CHECKING:
    from spe_dist.extractive_qa.scoring import ExtractiveQaScoring
    from spe_dist.extractive_qa.task import ExtractiveQa


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QaModelConfig:
    """How contexts are read, and the limits of answers."""

    max_pieces: Annotated[int, Field(ge=16)] = 512
    """Maximum number of pieces of [CLS] question [SEP] window [SEP]; less if the encoder has fewer positions."""
    max_question: Positive = 64
    """Maximum number of pieces of a question; a longer one is cut at its end."""
    stride: Positive = 128
    """Number of pieces between the starts of two neighbouring windows of a long context."""
    max_answer: Positive = 30
    """Maximum number of pieces of a predicted answer."""
    n_best: Positive = 20
    """Number of answers to predict for each question."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExtractiveQaConfig(FinetuneConfig):
    """A fine-tuning for questions whose answers are spans of a context."""

    task: Literal["extractive_qa"] = "extractive_qa"
    model: QaModelConfig

    @classmethod
    def task_class(cls) -> type[ExtractiveQa]:
        """What trains and predicts."""
        from spe_dist.extractive_qa.task import ExtractiveQa

        return ExtractiveQa

    @classmethod
    def scoring(cls) -> ExtractiveQaScoring:
        """How its predictions are read and scored."""
        from spe_dist.extractive_qa.scoring import ExtractiveQaScoring

        return ExtractiveQaScoring()
