"""Metadata of a model card on the hub, as its schema has it: what is not known is left out, nothing is made up.

Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md, by huggingface_hub's `ModelCardData`, which also
checks the results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from data_shards.errors import UserError
from spe_dist.export.export_format import MODEL_CARD
from spe_dist.finetuning.config import BERT
from spe_dist.finetuning.folder import RESULT
from spe_dist.hub.shared_model import SharedModel
from spe_dist.train.run_folder import CONFIG

# Measure → task of the hub, its name, and what is measured.
_TASKS = {
    "entity_f1": ("token-classification", "Named entity recognition", "entity F1 (words and type)"),
    "relation_f1": ("relation-extraction", "Relation extraction", "relation F1 (words of both arguments and type)"),
    "relation_strict_f1": (
        "relation-extraction",
        "Relation extraction",
        "strict relation F1 (words and types of both arguments, and type)",
    ),
}
_SPLITS = {"test": "test", "dev": "validation"}
_LIBRARIES = {"extractor": "spe_dist", "encoder": "transformers"}
_PIPELINES = {"extractor": "token-classification", "encoder": "feature-extraction"}
_LANGUAGE = re.compile(r"[a-z]{2,3}|multilingual")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_ANY_LANGUAGE = "xx"  # spaCy's rules for no language in particular


@dataclass(frozen=True)
class Given:
    """What a person says about a model, each over what its folder says.

    Args:
        license: license of the model, by the hub's identifiers.
        language: language of the texts, by ISO 639.
        base_model: what it was fine-tuned from, as the hub names it.
        dataset: what it learned from, as the hub names it.
    """

    license: str | None = None
    language: str | None = None
    base_model: str | None = None
    dataset: str | None = None

    def check(self) -> None:
        """Raise a UserError if the hub would not take something."""
        if self.language is not None and not _LANGUAGE.fullmatch(self.language):
            raise UserError(f"--language {self.language}: give a code of ISO 639, such as en, or multilingual")
        if self.license is not None and not _LICENSE.fullmatch(self.license):
            raise UserError(
                f"--license {self.license}: give one of the hub's identifiers, such as mit, apache-2.0 or cc-by-4.0"
            )


def card_of(model: SharedModel, name: str, given: Given) -> ModelCard:
    """The model's card as it is to be on the hub; what its own front matter says stays.

    Args:
        model: to be shared.
        name: USER/MODEL.
        given: by the person who shares it.

    Raises:
        UserError: the card that is there is malformed.
    """
    given.check()
    path = model.folder / MODEL_CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else f"\n# {name.partition('/')[2]}\n"
    if not text.startswith("---"):
        text = f"---\nlibrary_name: {_LIBRARIES[model.kind]}\n---\n{text}"
    try:
        card = ModelCard(text)
        theirs = {key: value for key, value in card.data.to_dict().items() if value}
        card.data = ModelCardData(**{**_known(model, name, given), **theirs, **_said(given)})
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: its front matter is malformed ({reason}): fix or remove it") from error
    # As a card in a folder does not know what it will be called.
    card.text = card.text.replace('"FOLDER"', f'"{name}"').replace("spe predict FOLDER", f"spe predict {name}")
    return card


def _said(given: Given) -> dict[str, Any]:
    values = {"license": given.license, "language": given.language, "base_model": given.base_model}
    datasets = {} if given.dataset is None else {"datasets": [given.dataset]}
    return {key: value for key, value in values.items() if value is not None} | datasets


def _known(model: SharedModel, name: str, given: Given) -> dict[str, Any]:
    """What the folder and the run that it lies in tell."""
    known: dict[str, Any] = {"library_name": _LIBRARIES[model.kind], "pipeline_tag": _PIPELINES[model.kind]}
    if _LANGUAGE.fullmatch(model.language) and model.language != _ANY_LANGUAGE:
        known["language"] = model.language
    config = _read(model.folder.parent / CONFIG)
    base = _base_model(config)
    if base is not None:
        known["base_model"] = base
    results = _results(config, _read(model.folder.parent / RESULT), given) if model.kind == "extractor" else []
    if results:
        with_results = ModelCardData(model_name=name.partition("/")[2], eval_results=results)
        known["model-index"] = with_results.to_dict()["model-index"]
    return known


def _read(path: Path) -> Mapping[str, Any]:
    """A file of the run that the model lies in; nothing if it lies alone."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, Mapping) else {}


def _base_model(config: Mapping[str, Any]) -> str | None:
    """The encoder that a run began with, if the hub has it under this name: not a folder, and not a run's."""
    if (config.get("start") or {}).get("pretrained", BERT) != BERT:
        return None
    encoder = (config.get("encoder") or {}).get("name_or_path")
    if not encoder or encoder.count("/") > 1 or encoder[0] in "./~" or Path(encoder).exists():
        return None
    return str(encoder)


def _results(config: Mapping[str, Any], result: Mapping[str, Any], given: Given) -> list[EvalResult]:
    """Results of the best epoch: on the test data if there were any, else on the dev data that selected it."""
    part = "test" if result.get("test") else "dev"
    file = (config.get("data") or {}).get(part)
    data = PurePath(file).name if file else part
    return [
        EvalResult(
            task_type=task,
            task_name=task_name,
            dataset_type=given.dataset or re.sub(r"[^\w.-]+", "-", data),
            dataset_name=data,
            dataset_split=_SPLITS[part],
            metric_type="f1",
            metric_name=measured,
            metric_value=round(result[part][measure], 4),
        )
        for measure, (task, task_name, measured) in _TASKS.items()
        if measure in (result.get(part) or {})
    ]
