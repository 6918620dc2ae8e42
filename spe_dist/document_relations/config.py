"""The settings of fine-tuning for relations of documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spe_dist.config import STRICT, Positive
from spe_dist.finetuning.config import FinetuneConfig

if TYPE_CHECKING:
    from spe_dist.document_relations.scoring import DocumentScoring
    from spe_dist.document_relations.task import DocumentRelations


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig:
    """Architecture above the sentence encoder."""

    entity_size: Positive
    """Size of an entity's vector after the linear layer."""
    distance_size: Positive
    """Size of the embedding of the distance between two entities' first mentions."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairsConfig:
    """Pairs of entities that training sees."""

    unrelated: Annotated[float, Field(ge=0)]
    """Pairs without a relation, drawn anew in each epoch, per pair of the document that has one."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DocumentRelationsConfig(FinetuneConfig):
    """A fine-tuning for relations between the entities of documents."""

    task: Literal["document_relations"] = "document_relations"
    model: ModelConfig
    pairs: PairsConfig

    def build_task(self) -> DocumentRelations:
        """The task with these settings."""
        from spe_dist.document_relations.task import DocumentRelations

        return DocumentRelations(self)

    @classmethod
    def scoring(cls) -> DocumentScoring:
        """How its predictions are read and scored."""
        from spe_dist.document_relations.scoring import DocumentScoring

        return DocumentScoring()
