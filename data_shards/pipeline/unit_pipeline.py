"""What every pipeline that makes a dataset shares: its folder, Ray, the collecting of units, the manifest at the end.

rows ──(Ray Data)──▶ one task per unit ──▶ shard + marker ──(all units)──▶ manifest.json
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from data_shards.errors import UserError
from data_shards.files import explain_write_errors
from data_shards.pipeline.finished_unit import MARKER_FOLDER, FinishedUnit
from data_shards.pipeline.ray_start import LOCAL, init_ray
from data_shards.shards import manifest
from data_shards.shards.manifest import MANIFEST_NAME, Manifest, RelationType, Shard, Statistics, most_repeated
from data_shards.stop_requests import stopped_on_request

_SHARD_NAME = re.compile(r"\d{2,}-\d{6}\.tar")
_SHOWN_REPEATS = 10  # in the manifest
_logger = logging.getLogger(__name__)
Row = dict[str, Any]
STOPPED_TEXT = "stopped on request; finished parts are kept, and the same command resumes"


@dataclass(frozen=True)
class BuildSummary:
    """A finished build in figures."""

    manifest: Manifest
    seconds: float
    workers: int
    """Processes that built units (0 if the dataset was there already)."""
    units: int
    units_reused: int
    """Units that an earlier, unfinished build had finished."""


@dataclass(frozen=True)
class Units:
    """All units of a dataset, in order."""

    finished: Sequence[FinishedUnit]
    workers: int
    reused: int

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Shards that hold records."""
        return tuple(unit.shard for unit in self.finished if unit.shard is not None)

    @property
    def statistics(self) -> Statistics:
        """Statistics summed over all units."""
        repeated = Counter[str]()
        for unit in self.finished:
            repeated.update(unit.repeated)
        total = sum((unit.statistics for unit in self.finished), Statistics())
        return replace(total, repeated=most_repeated(repeated, _SHOWN_REPEATS))

    def entity_types(self, types: Sequence[str]) -> dict[str, int]:
        """Names in the order of their ids → entities of each type."""
        counts = [unit.entity_counts for unit in self.finished]
        return {type: sum(count[number] for count in counts) for number, type in enumerate(types)}

    def relation_types(self, names: Mapping[str, str]) -> dict[str, RelationType]:
        """Codes and names in the order of their numbers → the same with facts of each relation."""
        counts = np.zeros(len(names), dtype=np.int64)
        for unit in self.finished:
            counts += np.array(unit.relation_counts, dtype=np.int64)
        facts = counts.tolist()
        return {code: RelationType(name, count) for (code, name), count in zip(names.items(), facts, strict=True)}


def check_folder(out: Path) -> None:
    """Refuse a folder that holds something else."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for the dataset")
    known = (out / MANIFEST_NAME).exists() or (out / MARKER_FOLDER).exists()
    if out.is_dir() and not known and any(path.suffix != ".tmp" for path in out.iterdir()):
        raise UserError(f"{out} contains other files than a dataset: name a new or empty folder")


def finished_manifest(out: Path, settings: Mapping[str, Any]) -> Manifest | None:
    """The manifest of a dataset that is there already, made with these settings.

    Raises:
        UserError: there is one, made otherwise.
    """
    if not (out / MANIFEST_NAME).exists():
        return None
    found = manifest.load(out)
    different = [key for key in {**settings, **found.build} if found.build.get(key) != settings.get(key)]
    if different:
        raise UserError(
            f"{out} holds a finished dataset built with other settings ({', '.join(different)} differ): "
            "name another folder, or remove this one"
        )
    _logger.info("%s: already built", out)
    shutil.rmtree(out / MARKER_FOLDER, ignore_errors=True)
    return found


@contextmanager
def running_ray(workers: int | None) -> Iterator[int | None]:
    """A running Ray, started here (and then stopped here) unless there is one; yields the number of workers to use."""
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it logs tracebacks of what we say in one line
    if ray.is_initialized():
        yield workers
        return
    if os.environ.get("RAY_ADDRESS", LOCAL) != LOCAL:
        init_ray(os.environ["RAY_ADDRESS"])
    else:
        workers = workers or os.cpu_count() or 1
        # Workers get one core each; the extra one is for reading, which takes next to nothing.
        init_ray(LOCAL, num_cpus=workers + 1, include_dashboard=False)
    try:
        with stopped_on_request(STOPPED_TEXT):  # once more: Ray has installed its own handlers
            yield workers
    except BaseException as error:
        # The frames that a request to stop has left may hold an iterator of Ray Data. It ends its run when it goes, and
        # once Ray has shut down it would start another Ray for that.
        earlier: BaseException | None = error
        while earlier is not None:
            traceback.clear_frames(earlier.__traceback__)
            earlier = earlier.__context__
        raise
    finally:
        ray.shutdown()


def rows_of_their_own(rows: Sequence[Row]) -> Any:
    """A Ray dataset whose rows, here and after each stage, are tasks of their own; with progress in a terminal."""
    import ray.data

    dataset = ray.data.from_items(list(rows), override_num_blocks=len(rows))
    dataset.context.target_max_block_size = 1
    dataset.context.enable_progress_bars = os.isatty(2)
    return dataset


def finish_row(row: Row, finish: Callable[[Row], tuple[FinishedUnit, bool]]) -> Row:
    """What the task of a unit gives back; its input has an `error` if reading failed.

    An exception from a task reaches the driver wrapped and logged with its traceback; a row does not.
    """
    result: Row = {
        "error": row.pop("error", ""),
        "unit": "",
        "reused": False,
        "process": f"{os.uname().nodename}:{os.getpid()}",
    }
    if not result["error"]:
        try:
            unit, result["reused"] = finish(row)
            result["unit"] = TypeAdapter(FinishedUnit).dump_json(unit).decode()
        except UserError as error:
            result["error"] = str(error)
    return result


def collect(rows: Iterable[Row], watch: Callable[[FinishedUnit], None] = lambda unit: None) -> Units:
    """All units from the rows of `finish_row`; `watch` sees each as it comes.

    Raises:
        UserError: a task met one, or `watch` raised it.
    """
    units, processes, reused = [], set(), 0
    for row in rows:
        if row["error"]:
            raise UserError(row["error"])
        unit = TypeAdapter(FinishedUnit).validate_json(row["unit"])
        watch(unit)
        units.append(unit)
        processes.add(row["process"])
        reused += row["reused"]
    units.sort(key=lambda unit: (unit.input_index, unit.unit_index))
    return Units(units, len(processes), reused)


def finish_dataset(out: Path, result: Manifest) -> Manifest:
    """Write the manifest, and remove what is no part of the dataset."""
    with explain_write_errors(out):
        _remove_other_shards(out, result.shardlist)
        result.save(out)
    shutil.rmtree(out / MARKER_FOLDER, ignore_errors=True)
    return result


def _remove_other_shards(out: Path, shards: tuple[Shard, ...]) -> None:
    """Remove shards of an earlier, unfinished build with other settings."""
    kept = {shard.url for shard in shards}
    for path in out.glob("*.tar"):
        if _SHARD_NAME.fullmatch(path.name) and path.name not in kept:
            path.unlink()
