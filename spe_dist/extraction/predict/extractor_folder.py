"""A trained extractor as a folder (see `finetuning/model_folder.py`): its description, and how it is rebuilt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from data_shards.errors import UserError
from data_shards.files import write_atomically
from data_shards.text.word_pieces import WordPieces
from spe_dist.config import STRICT
from spe_dist.extraction.model.architecture import Architecture
from spe_dist.extraction.model.calibration import Calibration
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import Labels
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.finetuning.model_folder import as_json, load_model
from spe_dist.finetuning.model_stem import require_model
from spe_dist.models.exported_encoders import INT8, check_int8
from spe_dist.models.sentence_encoder import SentenceEncoder

STEM = "extractor"
DESCRIPTION, WEIGHTS = f"{STEM}.json", f"{STEM}.safetensors"
FORMAT_VERSION = 2
_KNOWN_CHUNKS = 100_000  # some ten megabytes: an extractor may live long, and reads text of all kinds


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExtractorDescription:
    """What, besides the sentence encoder's own configuration, rebuilds an extractor."""

    entity_types: tuple[str, ...]
    """Entity types in the order of their classes."""
    relation_types: tuple[str, ...]
    architecture: Architecture
    constraints: Constraints
    calibration: Calibration | None = None
    """Calibration fitted on dev; None: scores are the model's own probabilities, which are overconfident."""
    language: str
    """Whose rules cut text into words (a spaCy language code)."""
    format_version: int = FORMAT_VERSION

    @property
    def labels(self) -> Labels:
        """The types as the model knows them."""
        return Labels(self.entity_types, self.relation_types)


def build_extractor(
    description: ExtractorDescription, sentence_encoder: SentenceEncoder, *, dropout: float
) -> ExtractorModel:
    """An extractor as described; all but the sentence encoder is new, and encoders of equal sizes begin equal."""
    model = description.architecture.build(
        description.labels, description.constraints, sentence_encoder, dropout=dropout
    )
    model.calibration = description.calibration
    return model


def calibrate(folder: Path, calibration: Calibration) -> None:
    """Keep the scaling of scores with an extractor that is there."""
    write_atomically(folder / DESCRIPTION, as_json(replace(load_description(folder), calibration=calibration)))


def load_extractor(folder: Path) -> tuple[ExtractorModel, WordPieces]:
    """Read what `save_model` or an export wrote, ready to predict, in fp32 if it is no export.

    Raises:
        UserError: not an extractor, a damaged one, or one that this version or this machine does not read.
        ModuleNotFoundError: it was exported for ONNX Runtime, which is not installed.
    """
    description = load_description(folder)
    if (folder / INT8).exists():
        check_int8()
    return load_model(
        folder,
        STEM,
        lambda encoder: build_extractor(description, encoder, dropout=0.0),
        language=description.language,
        max_known_chunks=_KNOWN_CHUNKS,
    )


def load_description(folder: Path) -> ExtractorDescription:
    """What an extractor's folder says of it.

    Raises:
        UserError: not an extractor, a damaged one, or one that this version does not read.
    """
    require_model(folder, STEM)
    path = folder / DESCRIPTION
    _check_version(folder)
    try:
        return TypeAdapter(ExtractorDescription).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: malformed at {place or 'its beginning'}: {first['msg']}: fine-tune again") from error


def _check_version(folder: Path) -> None:
    """Raise a UserError if another spe_dist has written this: what is malformed then is of no help."""
    try:
        version = json.loads((folder / DESCRIPTION).read_bytes())["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # damaged: what is wrong is said where it is read
    if type(version) is int and version != FORMAT_VERSION:
        age = "an older" if version < FORMAT_VERSION else "a newer"
        raise UserError(
            f"{folder} is an extractor of format {version}, which {age} spe_dist has written; this one reads format "
            f"{FORMAT_VERSION}: predict with the spe_dist that wrote it, or fine-tune again (spe finetune)"
        )
