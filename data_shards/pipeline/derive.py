"""A dataset → another one, a shard for each of its shards, as a Ray Data pipeline.

    shard ──records──▶ what a step makes of them ──▶ shard + marker ──(all shards)──▶ manifest.json

What is finished is kept, as in a build (`unit_pipeline`), and the bytes are the same at any number of workers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, remove_temporary_files, sha256_of, write_atomically
from data_shards.pipeline.finished_unit import (
    MARKER_FOLDER,
    TOKENIZER_FOLDER,
    FinishedUnit,
    ShardFormat,
    UnitContent,
    finish_unit,
)
from data_shards.pipeline.unit_pipeline import (
    BuildSummary,
    Row,
    Units,
    check_folder,
    collect,
    finish_dataset,
    finish_row,
    finished_manifest,
    rows_of_their_own,
    running_ray,
)
from data_shards.shards.location import is_remote
from data_shards.shards.manifest import Manifest
from data_shards.shards.reader import ShardReader


class Step(Protocol):
    """What is made of every shard; it goes to the workers."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides bytes beside the shard, as it stands in the manifest."""

    def max_pieces(self, source: Manifest) -> int:
        """Most pieces of a record of the new dataset, [CLS] and [SEP] included."""

    def content(self, source: ShardReader, shard: int) -> UnitContent:
        """The records of a new shard from those of a shard of the source.

        Raises:
            UserError: this machine lacks what it takes.
        """


@dataclass(frozen=True)
class DerivePlan:
    """All a worker needs: `settings` is the fingerprint of what decides bytes, beside the shard itself."""

    out: Path
    dataset: str
    fingerprint: str
    step: Step
    settings: str


def open_source(dataset: str) -> ShardReader:
    """The dataset that a person has named, which other processes find by the reader's location."""
    return ShardReader(dataset if is_remote(dataset) else str(Path(dataset).absolute()))


def derive(
    source: ShardReader,
    out: Path,
    step: Step,
    *,
    origin: str,
    name: str | None,
    workers: int | None,
    finish: Callable[[Manifest, Units], Manifest],
) -> BuildSummary:
    """Write a dataset, or go on with an unfinished one, or find it finished.

    Args:
        source: it is made from.
        out: its folder.
        step: makes its records.
        origin: key of the source's settings among its own.
        name: name of the dataset; that of the folder if not given.
        workers: processes; all cores if not given.
        finish: makes its manifest from the source's and all units; name and settings are added here.

    Raises:
        UserError: the dataset, the step or the surroundings are at fault; the message says which and what to do.
    """
    started = time.perf_counter()
    out = out.absolute()
    check_folder(out)
    settings = {**step.settings, origin: {"fingerprint": source.manifest.fingerprint, "build": source.manifest.build}}
    try:
        finished = finished_manifest(out, settings)
        if finished is not None:
            return BuildSummary(finished, time.perf_counter() - started, workers=0, units=0, units_reused=0)
        units = make_shards(source, out, step, workers)
        result = replace(
            finish(source.manifest, units),
            name=name or out.name,
            build=settings,
            shardlist=units.shards,
            max_pieces=step.max_pieces(source.manifest),
            tokenizer=replace(source.manifest.tokenizer, folder=TOKENIZER_FOLDER),
        )
        result = finish_dataset(out, result)
    finally:
        if out.is_dir():
            remove_temporary_files(out)
    return BuildSummary(result, time.perf_counter() - started, units.workers, len(units.finished), units.reused)


def make_shards(source: ShardReader, out: Path, step: Step, workers: int | None) -> Units:
    """Write the shards of a dataset that is made from another one, and its tokenizer; what is finished is found.

    Raises:
        UserError: the dataset, the step or the surroundings are at fault; the message says which and what to do.
    """
    _prepare(out, source)
    fingerprint = sha256_of(json.dumps(step.settings, sort_keys=True).encode())
    plan = DerivePlan(out, str(source.location), source.manifest.fingerprint, step, fingerprint)
    return _run_pipeline(plan, len(source.manifest.shardlist), workers)


def _prepare(out: Path, source: ShardReader) -> None:
    with explain_write_errors(out):
        (out / MARKER_FOLDER).mkdir(parents=True, exist_ok=True)
        (out / TOKENIZER_FOLDER).mkdir(exist_ok=True)
        folder = source.tokenizer_folder()
        for name in source.manifest.tokenizer.files:
            write_atomically(out / TOKENIZER_FOLDER / name, (folder / name).read_bytes())


def _run_pipeline(plan: DerivePlan, shards: int, workers: int | None) -> Units:
    with running_ray(workers) as running:
        rows = rows_of_their_own([{"shard": index} for index in range(shards)])
        return collect(rows.map(partial(_derive_row, plan), num_cpus=1, concurrency=running).iter_rows())


def _derive_row(plan: DerivePlan, row: Row) -> Row:
    return finish_row(row, lambda unit: derive_shard(plan, int(unit["shard"])))


def derive_shard(plan: DerivePlan, index: int) -> tuple[FinishedUnit, bool]:
    """Make a shard, or find it done; the second value tells whether it was found.

    Raises:
        UserError: the source's shard is damaged, the step cannot be taken here, or the folder cannot be written.
    """
    source = _source_of_worker(plan.dataset, plan.fingerprint)
    shard, tokenizer = source.manifest.shardlist[index], source.manifest.tokenizer
    max_pieces = plan.step.max_pieces(source.manifest)
    names = [*source.manifest.entity_types], [*source.manifest.relation_types]
    return finish_unit(
        plan.out,
        Path(shard.url).stem,
        (0, index),
        # What the numbers in a shard mean, only the manifest says.
        sha256_of(f"{plan.settings} {shard.sha256} {names}".encode()),
        lambda: plan.step.content(source, index),
        lambda: ShardFormat(source.manifest.block_records, max_pieces, tokenizer.vocab_size),
    )


@lru_cache(maxsize=1)
def _source_of_worker(location: str, fingerprint: str) -> ShardReader:
    source = ShardReader(location)
    if source.manifest.fingerprint != fingerprint:
        raise UserError(f"{location}: the dataset differs between machines: copy the same one to all")
    return source
