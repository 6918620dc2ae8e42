"""Where checkpoints lie: in a folder that all ranks share, or in an object storage and a folder of each machine."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from data_shards.files import sha256_of_file, sync
from spe_dist.checkpoint.durable_files import write_tensors, write_text
from spe_dist.checkpoint.reader import (
    FORMAT_VERSION,
    MANIFEST,
    STATE,
    Choice,
    Skipped,
    choose_checkpoint,
    fault_of,
    files_of_manifest,
    is_name,
    list_checkpoints,
    name_of,
    step_of,
)
from spe_dist.checkpoint.remote_folder import RemoteFolder

LOGGER = logging.getLogger(__name__)

_PARTIAL = ".partial-"
Files = dict[str, dict[str, Any]]


class StorageBackend(Protocol):
    """What a store asks of its storage. All but `write_share` and `fetch` are called by the first rank alone."""

    folder: Path
    """Local folder from which checkpoints are read."""

    def remove_leftovers(self) -> None:
        """Remove what a killed run left half-written or half-deleted."""
        ...

    def is_complete(self, step: int) -> bool:
        """Whether there is a checkpoint of a step, and every byte is as it was written."""
        ...

    def write_share(self, step: int, name: str, tensors: dict[str, Tensor]) -> Files:
        """Write a rank's file; its size and hash."""
        ...

    def complete(self, step: int, files: Files, metadata: dict[str, Any]) -> None:
        """Make a checkpoint of the files that all ranks wrote."""
        ...

    def abandon(self, step: int) -> None:
        """Remove a save's files: a rank could not write its own."""
        ...

    def steps(self) -> list[int]:
        """Steps of all checkpoints, in ascending order."""
        ...

    def delete(self, step: int) -> None:
        """Remove a checkpoint; killed meanwhile, it is there as before or not at all."""
        ...

    def choose(self) -> Choice:
        """The newest checkpoint of which every byte is as it was written, and the newer ones that are not."""
        ...

    def fetch(self, name: str) -> None:
        """Bring the chosen checkpoint into `folder`, if it is not there; by one rank of each machine."""
        ...

    def __str__(self) -> str:
        """The location, for people."""
        ...


class SharedFolder:
    """A folder on a file system that all ranks share. One rename makes a checkpoint.

    Args:
        folder: made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def remove_leftovers(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _remove(*self.folder.glob(f"{_PARTIAL}*"))

    def is_complete(self, step: int) -> bool:
        final = self.folder / name_of(step)
        return final.exists() and fault_of(final) is None

    def write_share(self, step: int, name: str, tensors: dict[str, Tensor]) -> Files:
        return _write_file(self._unfinished(step) / name, tensors)

    def complete(self, step: int, files: Files, metadata: dict[str, Any]) -> None:
        unfinished, final = self._unfinished(step), self.folder / name_of(step)
        _require_all(files, {path.name for path in unfinished.iterdir()}, "all machines must share this folder")
        _write_state_and_manifest(unfinished, step, files, metadata)
        sync(unfinished)
        if final.exists():  # `is_complete` said no
            self.delete(step)
        unfinished.rename(final)
        sync(self.folder)

    def abandon(self, step: int) -> None:
        shutil.rmtree(self._unfinished(step), ignore_errors=True)

    def steps(self) -> list[int]:
        return [step_of(checkpoint) for checkpoint in list_checkpoints(self.folder)]

    def delete(self, step: int) -> None:
        # Renamed first: a run killed in the middle of deleting must not leave half a checkpoint under a good name.
        checkpoint = self.folder / name_of(step)
        if checkpoint.is_symlink():
            raise OSError(f"{checkpoint} is a symbolic link; its target would remain")
        doomed = self.folder / f"{_PARTIAL}deleting-{checkpoint.name}"
        checkpoint.rename(doomed)
        _remove(doomed)

    def choose(self) -> Choice:
        return choose_checkpoint(self.folder)

    def fetch(self, name: str) -> None:
        """Nothing to do: it is there."""

    def _unfinished(self, step: int) -> Path:
        return self.folder / f"{_PARTIAL}{name_of(step)}"


class ObjectStorage:
    """Files at a URL, where nothing can be renamed: a checkpoint is there if its manifest is, which comes last.

    Args:
        remote: the folder of checkpoints.
        folder: folder of this machine, for the checkpoint that is read and for files on their way; made if missing.
        before_completing: called before a manifest is written, to send what belongs with the checkpoint.
    """

    def __init__(self, remote: RemoteFolder, folder: Path, *, before_completing: Callable[[], None]) -> None:
        self.folder = folder
        self._remote = remote
        self._before_completing = before_completing
        self._on_its_way = folder / f"{_PARTIAL}on-its-way"

    def __str__(self) -> str:
        return str(self._remote)

    def remove_leftovers(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _remove(*self.folder.glob(f"{_PARTIAL}*"))
        there = self._remote.files()
        for name in self._remote.entries():
            if is_name(name) and f"{name}/{MANIFEST}" not in there:
                self._remote.delete(name)

    def is_complete(self, step: int) -> bool:
        name = name_of(step)
        if f"{name}/{MANIFEST}" not in self._remote.files():
            return False
        if self._fault_here(name) is None:
            return True
        self.delete(step)  # now, while no rank writes: its manifest must not name new files
        return False

    def write_share(self, step: int, name: str, tensors: dict[str, Tensor]) -> Files:
        path = self._on_its_way / name
        try:
            files = _write_file(path, tensors)
            self._remote.upload(path, f"{name_of(step)}/{name}")
        finally:
            path.unlink(missing_ok=True)
        return files

    def complete(self, step: int, files: Files, metadata: dict[str, Any]) -> None:
        name = name_of(step)
        there = {file.removeprefix(f"{name}/") for file in self._remote.files() if file.startswith(f"{name}/")}
        _require_all(files, there, "all machines must be given the same URL")
        _write_state_and_manifest(self._on_its_way, step, files, metadata)
        self._before_completing()
        for file in (STATE, MANIFEST):
            self._remote.upload(self._on_its_way / file, f"{name}/{file}")

    def abandon(self, step: int) -> None:
        with suppress(OSError):  # why the save failed is said already; the next start removes what there is
            self.delete(step)

    def steps(self) -> list[int]:
        folders = [name.removesuffix(f"/{MANIFEST}") for name in self._remote.files() if name.endswith(f"/{MANIFEST}")]
        return sorted(step_of(Path(folder)) for folder in folders if is_name(folder))

    def delete(self, step: int) -> None:
        self._remote.delete(f"{name_of(step)}/{MANIFEST}")  # from here on it is none
        self._remote.delete(name_of(step))

    def choose(self) -> Choice:
        skipped: list[Skipped] = []
        for step in reversed(self.steps()):
            fault = self._fault_here(name_of(step))
            if fault is None:
                return name_of(step), tuple(skipped)
            skipped.append(Skipped(name_of(step), fault))
        return None, tuple(skipped)

    def fetch(self, name: str) -> None:
        fault = self._fault_here(name)
        if fault:
            raise OSError(f"{name} of {self} is not what it was a moment ago: {fault}")

    def _fault_here(self, name: str) -> str | None:
        """What is wrong with a checkpoint, which is brought here for that; only the last one stays here."""
        here = self.folder / name
        for other in list_checkpoints(self.folder):
            if other != here:
                shutil.rmtree(other)
        self._remote.download(f"{name}/{MANIFEST}", here / MANIFEST)
        if fault_of(here) is None:  # brought here before
            return None
        for file in files_of_manifest(here):
            try:
                self._remote.download(f"{name}/{file}", here / file)
            except FileNotFoundError:
                (here / file).unlink(missing_ok=True)
        return fault_of(here)


def _remove(*folders: Path) -> None:
    """Remove folders that are no checkpoints; what cannot be removed (a file that is busy, of another user) stays."""
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            LOGGER.warning("cannot delete %s, which is not needed: %s", folder, error)


def _write_file(path: Path, tensors: dict[str, Tensor]) -> Files:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors)
    return {path.name: _entry(path)}


def _write_state_and_manifest(folder: Path, step: int, files: Files, metadata: dict[str, Any]) -> None:
    state = folder / STATE
    write_text(state, json.dumps(metadata, indent=1, sort_keys=True))
    manifest = {"format_version": FORMAT_VERSION, "step": step, "files": {**files, STATE: _entry(state)}}
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1))


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def _require_all(files: Files, there: set[str], what_to_do: str) -> None:
    missing = sorted(files.keys() - there)
    if missing:
        raise OSError(f"rank 0 does not see {missing[0]}; {what_to_do}")
