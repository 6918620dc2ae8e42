"""A complete checkpoint on the disk: is it what was written, and what is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from data_shards.errors import UserError
from data_shards.files import sha256_of_file

FORMAT_VERSION = 2
MANIFEST, STATE = "manifest.json", "state.json"

_NAME = re.compile(r"step-\d+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REPLACED = "somebody has replaced it and its hash, do not trust this run folder; restore it from a backup"


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that cannot be used."""

    name: str
    reason: str


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint to read from; tensors are read when asked for.

    Args:
        folder: where it lies.
        skipped: newer checkpoints that cannot be used.
    """

    folder: Path
    skipped: tuple[Skipped, ...] = ()

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What was saved beside the tensors.

        Raises:
            UserError: the file holds something else.
        """
        try:
            metadata = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.folder / STATE} is not JSON ({error}): {_REPLACED}") from error
        if not isinstance(metadata, dict):
            raise UserError(f"{self.folder / STATE} does not hold a run's state: {_REPLACED}")
        return metadata

    @property
    def step(self) -> int:
        """Updates made before it was written."""
        return step_of(self.folder)

    def open(self) -> None:
        """Read and open all that is ever asked for."""
        assert self.metadata is not None and self._files is not None

    def names(self) -> set[str]:
        """Names of all tensors, whichever rank wrote them."""
        return set(self._files)

    def get(self, name: str) -> Tensor:
        """A whole tensor, on the CPU.

        Raises:
            UserError: there is none of that name.
        """
        if name not in self._files:
            raise UserError(
                f"the checkpoint {self.folder} has no tensor {name}: "
                "resume with the configuration of the run that wrote it"
            )
        return self._files[name].get_tensor(name)

    @cached_property
    def _files(self) -> dict[str, Any]:
        """The file of every tensor; only files that the manifest lists are opened, others may lie beside them."""
        listed = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        files = (self._open(name) for name in sorted(listed) if name.endswith(".safetensors"))
        return {name: file for file in files for name in file.keys()}  # noqa: SIM118  (not a mapping)

    def _open(self, name: str) -> Any:
        try:
            return safe_open(self.folder / name, framework="pt")
        except SafetensorError as error:
            raise UserError(f"{self.folder / name} is not a safetensors file ({error}): {_REPLACED}") from error


Choice = tuple[str | None, tuple[Skipped, ...]]
"""Name of the checkpoint to load, None if there is none that holds; and the newer ones that do not."""


def name_of(step: int) -> str:
    """A checkpoint folder's name."""
    return f"step-{step:09d}"


def is_name(name: str) -> bool:
    """Whether that is a checkpoint folder's name."""
    return _NAME.fullmatch(name) is not None


def step_of(folder: Path) -> int:
    """The step in a checkpoint folder's name."""
    return int(folder.name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders of the complete checkpoints below `folder`, oldest first; their content is not looked at."""
    return sorted((path for path in folder.glob("step-*") if is_name(path.name) and path.is_dir()), key=step_of)


def is_there(checkpoint: Path) -> bool:
    """Whether a checkpoint is still there: a run that goes on deletes old ones, of which files then seem to miss."""
    return checkpoint.is_dir()


def fault_of(checkpoint: Path) -> str | None:
    """The first thing that is wrong with a checkpoint, or None if every byte is as it was written."""
    return next(_faults(checkpoint), None)


def faults_of(checkpoint: Path) -> list[str]:
    """All that is wrong with a checkpoint."""
    return list(_faults(checkpoint))


@dataclass(frozen=True)
class CheckpointSummary:
    """What can be told of a checkpoint without reading its tensors.

    Args:
        step: updates made before it was written.
        saved_at: Unix time.
        size: bytes of all files.
        world_size: ranks that wrote it; None if that cannot be read, as with `zero_stage`.
        zero_stage: ZeRO stage of the run.
        fault: a file that is missing or has another size than it was written with; None if there is none.
    """

    step: int
    saved_at: float
    size: int
    world_size: int | None
    zero_stage: int | None
    fault: str | None


def read_summary(checkpoint: Path) -> CheckpointSummary | None:
    """Look at a checkpoint without reading its tensors; None if its run has deleted it meanwhile."""
    try:
        summary = _summary(checkpoint)
    except FileNotFoundError:
        summary = None
    return summary if is_there(checkpoint) else None


def _summary(checkpoint: Path) -> CheckpointSummary:
    fault = next(_faults(checkpoint, _fault_of_size), None)
    world_size: int | None
    zero_stage: int | None
    try:
        state = json.loads((checkpoint / STATE).read_bytes())
        world_size, zero_stage = int(state["world_size"]), int(state["config"]["train"]["zero_stage"])
    except (OSError, ValueError, KeyError, TypeError):
        world_size = zero_stage = None
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    return CheckpointSummary(step_of(checkpoint), checkpoint.stat().st_mtime, size, world_size, zero_stage, fault)


def choose_checkpoint(folder: Path) -> Choice:
    """Name of the newest checkpoint whose files are all as they were written, and the newer ones that are not."""
    skipped: list[Skipped] = []
    for checkpoint in reversed(list_checkpoints(folder)):
        fault = fault_of(checkpoint)
        if fault is None:
            return checkpoint.name, tuple(skipped)
        if not is_there(checkpoint):  # then there is a newer one
            return choose_checkpoint(folder)
        skipped.append(Skipped(checkpoint.name, fault))
    return None, tuple(skipped)


def load_chosen(folder: Path, choice: Choice) -> LoadedCheckpoint | None:
    """What `choose_checkpoint` chose; None if there is no checkpoint at all.

    Raises:
        UserError: there are checkpoints but none of them holds. A fresh start would hide that.
    """
    name, skipped = choice
    if name is not None:
        return LoadedCheckpoint(folder / name, skipped)
    if not skipped:
        return None
    reasons = "; ".join(f"{fault.name}: {fault.reason}" for fault in skipped)
    raise UserError(
        f"no checkpoint in {folder} can be used ({reasons}): "
        "restore one from a backup, or start over with another run name"
    )


def newest_checkpoint(folder: Path) -> LoadedCheckpoint | None:
    """The newest checkpoint that holds, for a process without ranks; it changes nothing, the run may be going on.

    All its files are open when this returns, so that it can be read even if the run deletes it.

    Raises:
        UserError: there are checkpoints but none of them holds.
    """
    while True:
        checkpoint = load_chosen(folder, choose_checkpoint(folder))
        try:
            if checkpoint is not None:
                checkpoint.open()
            return checkpoint
        except FileNotFoundError:
            if checkpoint is not None and is_there(checkpoint.folder):
                raise


def checkpoint_at(folder: Path, step: int) -> LoadedCheckpoint:
    """The checkpoint of a step, with all its files open.

    Raises:
        UserError: there is none, or it does not hold.
    """
    kept = {step_of(checkpoint): checkpoint for checkpoint in list_checkpoints(folder)}
    if step not in kept:
        steps = ", ".join(map(str, kept)) or "none"
        raise UserError(
            f"{folder} has no checkpoint of step {step} (kept: {steps}): train.keep_every keeps more of them"
        )
    checkpoint = kept[step]
    if fault := fault_of(checkpoint):
        raise UserError(f"{checkpoint} cannot be used ({fault}): take another step, or restore it from a backup")
    loaded = LoadedCheckpoint(checkpoint)
    loaded.open()
    return loaded


def files_of_manifest(checkpoint: Path) -> list[str]:
    """The files that a manifest lists, none if it cannot be read; what is no plain file name is left out."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_bytes())["files"]
        return [name for name in files if Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _faults(checkpoint: Path, fault_of_file: Callable[[Path, int, str], str | None] | None = None) -> Iterator[str]:
    """What is wrong with the manifest, or else with each file that it names."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_bytes())
        version = manifest["format_version"]
        step = manifest["step"]
        expected = {name: (int(file["bytes"]), str(file["sha256"])) for name, file in manifest["files"].items()}
    except FileNotFoundError:
        yield f"{MANIFEST} is missing"
        return
    except OSError as error:
        yield f"{MANIFEST} cannot be read: {error.strerror}"
        return
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        yield f"{MANIFEST} cannot be read"
        return
    if version != FORMAT_VERSION:
        yield f"its format version is {version}, this program reads {FORMAT_VERSION}"
        return
    foreign = next((name for name in expected if not _PLAIN_NAME.fullmatch(name)), None)
    if foreign is not None:  # a path that leads out of the folder
        yield f"{MANIFEST} lists {foreign!r}, which is not a plain file name"
        return
    if step != step_of(checkpoint):
        yield f"its {MANIFEST} is that of step {step}"
    unlisted = _unlisted(checkpoint, expected)
    if unlisted:
        yield f"{unlisted} is not in its {MANIFEST}"
    for name, (size, digest) in expected.items():
        fault = (fault_of_file or _fault_of_file)(checkpoint / name, size, digest)
        if fault:
            yield fault


def _unlisted(checkpoint: Path, expected: Collection[str]) -> str | None:
    """A file that would be read, and of which nobody knows the hash; STATE is one that must be listed."""
    there = {path.name for path in checkpoint.glob("rank-*.safetensors")} | {STATE}
    return min(there - set(expected), default=None)


def _fault_of_file(path: Path, size: int, digest: str) -> str | None:
    fault = _fault_of_size(path, size, digest)
    if fault:
        return fault
    try:
        if sha256_of_file(path) != digest:
            return f"{path.name} does not have the SHA-256 it was written with"
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    return None


def _fault_of_size(path: Path, size: int, digest: str) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    if path.stat().st_size != size:
        return f"{path.name} has {path.stat().st_size} bytes, not {size}"
    return None
