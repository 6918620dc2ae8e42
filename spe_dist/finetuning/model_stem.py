"""Which task's model lies in a folder, found out without torch: who has mistyped a path need not wait for it.

STEM.json and STEM.safetensors are what a fine-tuned model has beside its sentence encoder (see model_folder.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_shards.errors import UserError
from spe_dist.export.export_format import DESCRIPTION

_MODELS = ("model", "seed-*/model")  # where the models of a fine-tuning lie in its folders


def stem_of(folder: Path) -> str | None:
    """The stem of the fine-tuned model in a folder; None if there is none."""
    weights = sorted(folder.glob("*.safetensors"))
    stems = [path.stem for path in weights if path.with_suffix(".json").is_file()]
    return stems[0] if stems and not (folder / DESCRIPTION).is_file() else None


def models_below(folder: Path) -> list[Path]:
    """Folders of fine-tuned models in the folder of a fine-tuning, or of one of its seeds."""
    return sorted(found for place in _MODELS for found in folder.glob(place) if stem_of(found) is not None)


def require_model(folder: Path, stem: str) -> None:
    """Raise a UserError if there is no model of this stem, naming models that lie where people look first."""
    name = f"{stem}.json"
    if (folder / name).is_file():
        return
    if folder.is_file():
        raise UserError(f"{folder} is a file, not the folder of a model: name the model first, then files")
    kind = "an extractor" if stem == "extractor" else f"a model of {stem.replace('_', ' ')}"
    found = sorted(path.parent for place in _MODELS for path in folder.glob(f"{place}/{name}"))
    if found:
        raise UserError(f"{folder} is not {kind}, did you mean {' or '.join(map(str, found))}?")
    places = [folder] if folder.exists() else folder.parents[:2]  # of RUN/seed-2/model, RUN
    others = next(filter(None, map(models_below, places)), [])
    if others:
        what = "the folder of a model" if folder.exists() else "there"
        raise UserError(f"{folder} is not {what}, did you mean {' or '.join(map(str, others[:3]))}?")
    raise UserError(f"{folder} is not {kind}: no {name} there; make one with: spe finetune")


def read_description(folder: Path, stem: str) -> dict[str, Any]:
    """STEM.json, unchecked.

    Raises:
        UserError: it is missing, or no JSON object that names a language.
    """
    path = folder / f"{stem}.json"
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or not isinstance(values.get("language"), str):
            raise ValueError("names no language")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}): fine-tune again") from error
    return values
