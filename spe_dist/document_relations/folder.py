"""A trained model as a folder (see `finetuning/model_folder.py`): its description, and how it is rebuilt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from data_shards.errors import UserError
from data_shards.files import write_atomically
from data_shards.text.word_pieces import WordPieces
from spe_dist.config import STRICT
from spe_dist.document_relations.atlop import AtlopHead, AtlopModel
from spe_dist.document_relations.model import DocumentModel, Markers, PairClassifier
from spe_dist.finetuning.model_folder import as_json, load_model
from spe_dist.finetuning.model_stem import require_model
from spe_dist.models.sentence_encoder import SentenceEncoder

STEM = "document_relations"
DESCRIPTION = f"{STEM}.json"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DocumentModelDescription:
    """What, besides the sentence encoder's own configuration, rebuilds a model."""

    relations: tuple[str, ...]
    """Relations in the order of their classes, which begin at 1."""
    head: Literal["erica", "atlop"] = "erica"
    entity_size: int
    distance_size: int | None = None
    """Size of the embedding of distances; for ERICA's head only."""
    block_size: int | None = None
    """Size of the blocks of the bilinear classifier; for ATLOP's head only."""
    max_labels: int | None = None
    """Largest number of relations of a pair; for ATLOP's head only."""
    markers: Markers = "none"
    """What stands before and after every mention."""
    threshold: float | None = None
    """Lowest score at which a relation counts, chosen on dev; None: the fine-tuning has not finished."""
    language: str
    """Whose rules cut text into words (a spaCy language code)."""
    format_version: int = 1


def build_model(description: DocumentModelDescription, encoder: SentenceEncoder) -> DocumentModel:
    """A model as described; all but the sentence encoder is new."""
    classes = 1 + len(description.relations)
    if description.head == "atlop":
        assert description.block_size is not None and description.max_labels is not None
        head = AtlopHead(
            encoder.hidden_size,
            entity_size=description.entity_size,
            block_size=description.block_size,
            classes=classes,
        )
        return AtlopModel(
            encoder,
            head,
            description.relations,
            threshold=description.threshold,
            markers=description.markers,
            max_labels=description.max_labels,
        )
    assert description.distance_size is not None
    classifier = PairClassifier(
        encoder.hidden_size,
        entity_size=description.entity_size,
        distance_size=description.distance_size,
        classes=classes,
    )
    return DocumentModel(
        encoder, classifier, description.relations, threshold=description.threshold, markers=description.markers
    )


def load_description(folder: Path) -> DocumentModelDescription:
    """Read the description of a model.

    Raises:
        UserError: there is no such model, or it is malformed.
    """
    require_model(folder, STEM)
    path = folder / DESCRIPTION
    try:
        return TypeAdapter(DocumentModelDescription).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: malformed at {place or 'its beginning'}: {first['msg']}: fine-tune again") from error


def keep_threshold(folder: Path, threshold: float) -> None:
    """Keep the threshold with a model that is there."""
    write_atomically(folder / DESCRIPTION, as_json(replace(load_description(folder), threshold=threshold)))


def load_document_model(folder: Path) -> tuple[DocumentModel, WordPieces]:
    """Read a model, in fp32 and ready to predict.

    Raises:
        UserError: there is none, or a damaged one.
    """
    description = load_description(folder)
    return load_model(folder, STEM, lambda encoder: build_model(description, encoder), language=description.language)
