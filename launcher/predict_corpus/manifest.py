"""manifest.json of predicted shards: what they were made from and how, and what is in each.

Its beginning, without shards, lies in the folder from the start (`.units/run.json`): who goes on with other inputs,
another model or other settings is told so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import sha256_of_file, write_atomically
from launcher.predict_corpus.bad_lines import BadLines
from launcher.predict_corpus.counts import Counts
from launcher.predict_corpus.plan import MARKER_FOLDER, Plan
from launcher.predict_corpus.shard import Shard

MANIFEST, RUN = "manifest.json", "run.json"
_FORMAT = "predictions 1"
_LIBRARIES = ("sentencex", "spacy", "tokenizers", "torch", "transformers")  # what decides sentences, words and scores
_MODEL_CARD = "README.md"
_SHOWN = 3


@dataclass(frozen=True)
class Origin:
    """All that decides the bytes of the shards; no paths of this machine.

    Args:
        inputs: name, format, bytes and SHA-256 of each input.
        model: SHA-256 of each file of the model.
        settings: settings of reading and predicting, and versions of the libraries that do it.
    """

    inputs: tuple[dict[str, Any], ...]
    model: dict[str, str]
    settings: dict[str, Any]

    @classmethod
    def of(cls, plan: Plan) -> Origin:
        """Read inputs and model."""
        files = sorted(path for path in plan.model.rglob("[!.]*") if path.is_file() and path.name != _MODEL_CARD)
        settings = {
            **plan.settings,
            "device": plan.settings["device"].partition(":")[0],  # not which one
            "text_field": plan.text_field,
            "records_per_file": plan.records_per_file,
            "versions": {name: version(name) for name in (*_LIBRARIES, "spe_dist")},
        }
        return cls(
            tuple(
                {"name": one.name, "format": one.format, "bytes": one.size, "sha256": sha256_of_file(one.path)}
                for one in plan.sources
            ),
            {path.relative_to(plan.model).as_posix(): sha256_of_file(path) for path in files},
            settings,
        )

    def differences(self, other: Origin) -> list[str]:
        """What differs, for people."""
        inputs = [f"input {name}" for name in _different(*map(_by_place, (self.inputs, other.inputs)))]
        more = [f"and {counted(len(inputs) - _SHOWN, 'further input')}"] if len(inputs) > _SHOWN else []
        settings = [f"setting {name}" for name in _different(self.settings, other.settings)]
        return [*(["model"] if self.model != other.model else []), *settings, *inputs[:_SHOWN], *more]


def _by_place(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Inputs by name and number: names may occur twice, and their order counts."""
    return {f"{one['name']} (number {number})": one for number, one in enumerate(inputs, start=1)}


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


@dataclass(frozen=True)
class Manifest:
    """Manifest of finished predictions."""

    origin: Origin
    shards: tuple[Shard, ...]

    @property
    def counts(self) -> Counts:
        """Counts over all texts."""
        return Counts.sum(shard.counts for shard in self.shards)

    @property
    def bad_lines(self) -> BadLines:
        """Lines that were skipped."""
        found = BadLines(sum(shard.bad_lines for shard in self.shards))
        for shard in self.shards:
            found.add(*shard.bad_line_examples, count=shard.bad_lines)
        return found

    def save(self, out: Path) -> None:
        """Write the manifest, which completes the predictions."""
        shards = [asdict(shard) for shard in self.shards]
        found = {"format": _FORMAT, **asdict(self.origin), "counts": asdict(self.counts), "shards": shards}
        write_atomically(out / MANIFEST, (json.dumps(found, indent=1) + "\n").encode())

    @classmethod
    def load(cls, out: Path) -> Manifest | None:
        """Manifest of a folder; None if it has none.

        Raises:
            UserError: the folder has a manifest of something else, or a damaged one.
        """
        try:
            found = json.loads((out / MANIFEST).read_bytes())
            if found.get("format") != _FORMAT:
                raise ValueError("not one of predictions")
            return cls(_origin(found), TypeAdapter(tuple[Shard, ...]).validate_python(found["shards"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{out / MANIFEST} is not a manifest of predictions, or is damaged: name a new or empty folder"
            ) from error


def begin(out: Path, origin: Origin) -> None:
    """Write down what is begun here, or check that it is what was begun.

    Raises:
        UserError: something else was begun.
    """
    path = out / MARKER_FOLDER / RUN
    try:
        require_same(out, _origin(json.loads(path.read_bytes())), origin)
    except (FileNotFoundError, ValueError, KeyError):  # begun by nobody: it is written before any shard
        write_atomically(path, json.dumps(asdict(origin)).encode())


def require_same(out: Path, before: Origin, now: Origin) -> None:
    """Raise a UserError unless both are the same."""
    if different := before.differences(now):
        named = ", ".join(different)
        raise UserError(
            f"{out} holds predictions of other inputs or settings (different: {named}): name another folder, or remove "
            "this one"
        )


def check_folder(out: Path) -> None:
    """Refuse a folder that holds something else."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: name a folder for the shards")
    known = (out / MARKER_FOLDER / RUN).exists() or Manifest.load(out) is not None
    if out.is_dir() and not known and any(not path.name.startswith(".") for path in out.iterdir()):
        raise UserError(f"--out {out} contains other files than predictions: name a new or empty folder")


def _origin(found: Mapping[str, Any]) -> Origin:
    return Origin(tuple(found["inputs"]), found["model"], found["settings"])
