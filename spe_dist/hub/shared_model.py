"""What of a folder goes to the hub: the files of an extractor or of an exported encoder, and no pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from data_shards.errors import UserError
from spe_dist.export.export_format import DESCRIPTION as OF_EXPORT
from spe_dist.export.export_format import MODEL_CARD, SPAN_PAIR_WEIGHTS, Description
from spe_dist.extraction.predict.extractor_folder import DESCRIPTION as OF_EXTRACTOR
from spe_dist.extraction.predict.extractor_folder import WEIGHTS, load_description
from spe_dist.finetuning.model_stem import require_model, stem_of
from spe_dist.models.exported_encoders import is_exported
from spe_dist.train.run_folder import CHECKPOINTS

Kind = Literal["extractor", "encoder"]
_OF_BOTH = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_FILES: dict[Kind, tuple[str, ...]] = {
    "extractor": (*_OF_BOTH, OF_EXTRACTOR, WEIGHTS),
    "encoder": (*_OF_BOTH, OF_EXPORT, SPAN_PAIR_WEIGHTS),
}
_PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth", ".th"}


@dataclass(frozen=True)
class SharedModel:
    """A model that may be uploaded.

    Args:
        folder: where it is.
        kind: what it is.
        language: whose rules cut its texts into words.
        files: that make it up, without the card.
        left_out: names of other files in the folder.
    """

    folder: Path
    kind: Kind
    language: str
    files: tuple[Path, ...]
    left_out: tuple[str, ...]


def read_shared_model(folder: Path) -> SharedModel:
    """Look at a folder.

    Raises:
        UserError: it is no extractor and no exported encoder, not complete, or holds what may be a pickle.
    """
    kind, language = _kind_of(folder)
    there = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in there:
        if path.suffix.lower() in _PICKLES:
            raise UserError(
                f"{path} may be a pickle, which runs code where it is loaded: remove it, as the weights are in "
                "safetensors files already"
            )
    files = tuple(folder / name for name in _FILES[kind])
    for path in files:
        if not path.is_file():
            raise UserError(f"{folder} is not complete, {path.name} is missing: copy it again")
        if path.suffix == ".safetensors":
            _check_safetensors(path)
    names = (path.relative_to(folder).as_posix() for path in there if path not in (*files, folder / MODEL_CARD))
    return SharedModel(folder, kind, language, files, tuple(names))


def _kind_of(folder: Path) -> tuple[Kind, str]:
    if (folder / OF_EXPORT).is_file():
        return "encoder", Description.load(folder).language
    stem = stem_of(folder)
    if stem not in (None, "extractor"):
        raise UserError(
            f"{folder} is a model of {stem.replace('_', ' ')}: only extractors and exported encoders can be pushed"
        )
    if stem is None and (folder / CHECKPOINTS).is_dir():
        raise UserError(f"{folder} is a run: export it (spe export {folder}) and push {folder / 'export'}")
    if stem is None and (folder / "config.json").is_file():
        raise UserError(
            f"{folder} is neither an extractor (no {OF_EXTRACTOR}, {WEIGHTS}) nor an exported encoder "
            f"(no {OF_EXPORT}): name a model"
        )
    require_model(folder, "extractor")
    if is_exported(folder):
        raise UserError(f"{folder} is an export for fast prediction on CPUs: push the model that it was made of")
    return "extractor", load_description(folder).language


def _check_safetensors(path: Path) -> None:
    try:
        with safe_open(path, framework="numpy") as tensors:
            tensors.keys()
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a safetensors file ({error}): copy it again") from error
