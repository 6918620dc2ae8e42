"""A trained extractor as a folder: all that rebuilds it, without pickles.

config.json, model.safetensors         the sentence encoder, as `transformers.AutoModel` loads it
tokenizer.json, tokenizer_config.json  its tokenizer, as `transformers.AutoTokenizer` loads it
extractor.safetensors, extractor.json  span, context and pair encoder and classifiers; labels and sizes
README.md                              the model card, written when the run is over (see extractor_card.py)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig

from data_shards.errors import UserError
from data_shards.files import write_atomically
from data_shards.text.word_pieces import WordPieces
from spe_dist.config import STRICT
from spe_dist.export.export_run import written_whole
from spe_dist.extraction.model.architecture import Architecture
from spe_dist.extraction.model.calibration import Calibration
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import Labels
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.extraction.predict.extractor_place import DESCRIPTION, check_is_extractor
from spe_dist.models.sentence_encoder import (
    SentenceEncoder,
    load_sentence_encoder,
    save_sentence_encoder,
    save_tokenizer,
)

FORMAT_VERSION = 2
_KNOWN_CHUNKS = 100_000  # some ten megabytes: an extractor may live long, and reads text of all kinds
WEIGHTS = "extractor.safetensors"
_ENCODER = "sentence_encoder."


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExtractorDescription:
    """What, besides the sentence encoder's own configuration, rebuilds an extractor."""

    entity_types: tuple[str, ...]
    """In the order of their classes."""
    relation_types: tuple[str, ...]
    architecture: Architecture
    constraints: Constraints
    calibration: Calibration | None = None
    """Fitted on dev; None: scores are the model's own probabilities, which are too sure of themselves."""
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


def save_extractor(
    folder: Path,
    model: ExtractorModel,
    description: ExtractorDescription,
    word_pieces: WordPieces,
    weights: Mapping[str, Tensor],
) -> None:
    """Write an extractor, whole or not at all; an older one there is replaced.

    Args:
        folder: to write.
        model: gives the sentence encoder's configuration.
        description: of the model.
        word_pieces: of the sentence encoder.
        weights: of all parameters of the model, by name, fp32.

    Raises:
        UserError: it cannot be written.
    """
    prefix = f"{_ENCODER}model."
    encoder = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    rest = {name: weight.contiguous() for name, weight in weights.items() if not name.startswith(prefix)}
    with written_whole(folder) as unfinished:
        save_sentence_encoder(model.sentence_encoder, unfinished, encoder)
        save_file(rest, unfinished / WEIGHTS)
        save_tokenizer(word_pieces, model.sentence_encoder, unfinished)
        (unfinished / DESCRIPTION).write_bytes(_as_json(description))
        for file in unfinished.iterdir():  # safetensors' own are for their owner only
            shutil.copymode(unfinished / DESCRIPTION, file)


def calibrate(folder: Path, calibration: Calibration) -> None:
    """Keep the scaling of scores with an extractor that is there."""
    write_atomically(folder / DESCRIPTION, _as_json(replace(_load_description(folder), calibration=calibration)))


def load_extractor(folder: Path) -> tuple[ExtractorModel, WordPieces]:
    """Read what `save_extractor` wrote, in fp32 and ready to predict.

    Raises:
        UserError: not an extractor, a damaged one, or one that this version does not read.
    """
    description = _load_description(folder)
    try:
        word_pieces = WordPieces.load(str(folder), language=description.language, max_known_chunks=_KNOWN_CHUNKS)
        sentence_encoder = load_sentence_encoder(
            str(folder), AutoConfig.from_pretrained(folder, trust_remote_code=False)
        )
        model = build_extractor(description, sentence_encoder, dropout=0.0)
        encoder = {f"{_ENCODER}{name}": weight for name, weight in sentence_encoder.state_dict().items()}
        model.load_state_dict(load_file(folder / WEIGHTS) | encoder)
    except (UserError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} is not a whole extractor ({reason}): copy it again, or fine-tune again") from error
    return model.requires_grad_(False).eval(), word_pieces


def _as_json(description: ExtractorDescription) -> bytes:
    return (json.dumps(asdict(description), indent=2, ensure_ascii=False) + "\n").encode()


def _load_description(folder: Path) -> ExtractorDescription:
    check_is_extractor(folder)
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
