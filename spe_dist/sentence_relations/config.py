"""The settings of fine-tuning for relations of two given entities of a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Count
from spe_dist.finetuning.config import FinetuneConfig, FinetuneDataConfig

if TYPE_CHECKING:
    from spe_dist.sentence_relations.scoring import SentenceRelationsScoring
    from spe_dist.sentence_relations.task import SentenceRelations


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SentenceDataConfig(FinetuneDataConfig):
    """Sentences with two entities and their relation: SemEval-2010 task 8 (TXT), TACRED or CP (JSON)."""

    dev: str | None = None
    """File that selects the best epoch. Null: a part of the training file, the same share of every relation."""
    dev_share: Annotated[float, Field(gt=0, lt=1)] = 0.19
    """Share of the training file that selects the best epoch if data.dev is null; CP's split of SemEval has 19 %."""
    split_seed: Count = 1
    """Random seed that selects this part of the training file; the same for all seeds of a run."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SentenceModelConfig:
    """Architecture above the sentence encoder."""

    pooling: Literal["mean", "start_marker"] = "mean"
    """Vector of an entity: mean of the states of its pieces, or state of the marker before it (MTB, CP)."""
    max_pieces: Annotated[int, Field(ge=16)] = 100
    """Maximum number of pieces of a sentence, including [CLS], [SEP] and markers; a longer one is cut so that both
    entities stay."""
    no_relation: tuple[str, ...] = ("Other", "no_relation", "NA")
    """Labels in the data that mean "no relation": SemEval's, TACRED's and CP's."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SentenceRelationsConfig(FinetuneConfig):
    """A fine-tuning for the relation between two given entities of a sentence."""

    has_offsets = False

    task: Literal["sentence_relations"] = "sentence_relations"
    data: SentenceDataConfig
    model: SentenceModelConfig

    @classmethod
    def task_class(cls) -> type[SentenceRelations]:
        """What trains and predicts."""
        from spe_dist.sentence_relations.task import SentenceRelations

        return SentenceRelations

    @classmethod
    def scoring(cls) -> SentenceRelationsScoring:
        """How its predictions are read and scored."""
        from spe_dist.sentence_relations.scoring import SentenceRelationsScoring

        return SentenceRelationsScoring()
