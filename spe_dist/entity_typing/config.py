"""The settings of fine-tuning for types of given mentions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT
from spe_dist.finetuning.config import FinetuneConfig

if TYPE_CHECKING:
    from spe_dist.entity_typing.scoring import EntityTypingScoring
    from spe_dist.entity_typing.task import EntityTyping


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TypingModelConfig:
    """Architecture above the sentence encoder, and the threshold of types."""

    max_pieces: Annotated[int, Field(ge=8)] = 256
    """Maximum number of pieces of a sentence, including [CLS] and [SEP]; of a longer one, the pieces nearest to the
    mention are kept."""
    threshold: Literal["half", "dev"] = "half"
    """Lowest probability at which a type counts: one half, or the value with the best macro F1 on dev. The most
    probable type always counts."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EntityTypingConfig(FinetuneConfig):
    """A fine-tuning for the types of given mentions, several of each."""

    task: Literal["entity_typing"] = "entity_typing"
    model: TypingModelConfig

    @classmethod
    def task_class(cls) -> type[EntityTyping]:
        """What trains and predicts."""
        from spe_dist.entity_typing.task import EntityTyping

        return EntityTyping

    @classmethod
    def scoring(cls) -> EntityTypingScoring:
        """How its predictions are read and scored."""
        from spe_dist.entity_typing.scoring import EntityTypingScoring

        return EntityTypingScoring()
