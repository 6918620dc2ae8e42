"""The settings of fine-tuning for relations of documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_shards.errors import UserError
from spe_dist.config import STRICT, Positive
from spe_dist.finetuning.config import FinetuneConfig

if TYPE_CHECKING:
    from spe_dist.document_relations.scoring import DocumentScoring
    from spe_dist.document_relations.task import DocumentRelations


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig:
    """Architecture above the sentence encoder."""

    head: Literal["erica", "atlop"] = "erica"
    """Classifier of relations: erica (mean vectors, a bilinear form, a threshold chosen on dev) or atlop (localized
    context, adaptive threshold; use the recipe finetune_document_relations_atlop_cpu)."""
    entity_size: Positive
    """Size of an entity's vector after the linear layer."""
    distance_size: Positive | None = None
    """Head erica: size of the embedding of the distance between two entities' first mentions."""
    markers: Literal["none", "star", "numbered"] | None = None
    """What is put before and after every mention: none, star (an asterisk; head atlop only) or numbered (the markers of
    an ERICA run with pooling: marker; head erica only). Null: star with head atlop, none with head erica."""
    block_size: Positive = 64
    """Head atlop: size of the blocks of the grouped bilinear form; divides model.entity_size."""
    max_labels: Positive = 4
    """Head atlop: maximum number of relations of a pair."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairsConfig:
    """Pairs of entities that training sees."""

    unrelated: Annotated[float, Field(ge=0)] | None
    """Number of unrelated pairs per related pair of a document, drawn anew in each epoch. Null: all pairs."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DocumentRelationsConfig(FinetuneConfig):
    """A fine-tuning for relations between the entities of documents."""

    task: Literal["document_relations"] = "document_relations"
    model: ModelConfig
    pairs: PairsConfig

    def check(self) -> None:
        """Raise a UserError if settings of the head do not fit each other."""
        model = self.model
        if model.head == "erica" and model.distance_size is None:
            raise UserError("model.distance_size is null, and the head erica needs it: give a number, such as 20")
        if model.head == "erica" and model.markers == "star":
            raise UserError("model.markers star is for the head atlop: remove it, or add --model.head atlop")
        if model.head == "atlop" and model.markers == "numbered":
            raise UserError("model.markers numbered is for the head erica: remove it, or add --model.head erica")
        if model.head == "atlop" and model.entity_size % model.block_size:
            raise UserError(
                f"model.entity_size is {model.entity_size}, which blocks of {model.block_size} (model.block_size) do "
                "not divide: give a multiple"
            )

    @classmethod
    def task_class(cls) -> type[DocumentRelations]:
        """What trains and predicts."""
        from spe_dist.document_relations.task import DocumentRelations

        return DocumentRelations

    @classmethod
    def scoring(cls) -> DocumentScoring:
        """How its predictions are read and scored."""
        from spe_dist.document_relations.scoring import DocumentScoring

        return DocumentScoring()
