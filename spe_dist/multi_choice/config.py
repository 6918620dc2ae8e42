"""The settings of fine-tuning for questions with given candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Positive
from spe_dist.finetuning.config import FinetuneConfig

if TYPE_CHECKING:
    from spe_dist.multi_choice.scoring import MultiChoiceScoring
    from spe_dist.multi_choice.task import MultiChoice


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ChoiceModelConfig:
    """What the model reads."""

    max_pieces: Annotated[int, Field(ge=16)] = 512
    """Maximum number of pieces of a window, including query, [CLS] and both [SEP]; less if the encoder has fewer
    positions."""
    max_windows: Positive | None = 8
    """Maximum number of windows of a question; the texts after them are not read. Null: all texts are read."""
    max_query: Positive = 64
    """Maximum number of pieces of a query; a longer one is cut."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MultiChoiceConfig(FinetuneConfig):
    """A fine-tuning for questions whose answer is one of given candidates."""

    has_offsets = False

    task: Literal["multi_choice"] = "multi_choice"
    model: ChoiceModelConfig

    @classmethod
    def task_class(cls) -> type[MultiChoice]:
        """What trains and predicts."""
        from spe_dist.multi_choice.task import MultiChoice

        return MultiChoice

    @classmethod
    def scoring(cls) -> MultiChoiceScoring:
        """How its predictions are read and scored."""
        from spe_dist.multi_choice.scoring import MultiChoiceScoring

        return MultiChoiceScoring()
