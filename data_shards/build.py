"""Text → a dataset of shards, as a Ray Data pipeline: read units → build units → manifest.

    inputs ──read_units──▶ one block per work unit ──build_unit──▶ shard + marker ──(all units)──▶ manifest.json

Reading is one task per input and cheap; building is one task per unit and runs on every core.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from data_shards import manifest
from data_shards.build_config import BuildConfig
from data_shards.corpus import Source, WorkUnit, read_units, resolve_sources
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, remove_temporary_files, sha256_of, sha256_of_file
from data_shards.manifest import LAYERS, MANIFEST_NAME, Manifest, Shard, Statistics, TokenizerInfo
from data_shards.unit_builder import MARKER_FOLDER, TOKENIZER_FOLDER, FinishedUnit, UnitPlan, build_unit
from data_shards.word_pieces import WordPieces

_SHARD_NAME = re.compile(r"\d{2,}-\d{6}\.tar")
_logger = logging.getLogger(__name__)
Row = dict[str, Any]


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


def build(config: BuildConfig) -> Manifest:
    """Build a dataset, or go on with an unfinished one, or find it finished. See `build_with_summary`."""
    return build_with_summary(config).manifest


def build_with_summary(config: BuildConfig) -> BuildSummary:
    """Build a dataset and say how it went.

    Raises:
        UserError: inputs, settings or surroundings are at fault; the message says which and what to do.
    """
    started = time.perf_counter()
    out = config.out.absolute()
    _check_folder(out)
    try:
        sources = resolve_sources(config.inputs, config.format, out)
        tokenizer = WordPieces.load(config.tokenizer, language=config.language, lowercase=config.lowercase)
        settings = _resolved_settings(config, sources, tokenizer)
        finished = _finished_manifest(out, settings, tokenizer)
        if finished is not None:
            return BuildSummary(finished, time.perf_counter() - started, workers=0, units=0, units_reused=0)
        plan = _prepare(config, out, sources, settings, tokenizer)
        units, workers, reused = _run_pipeline(plan, config)
        result = _finish(config, plan, settings, tokenizer, units)
    finally:
        if out.is_dir():
            remove_temporary_files(out)
    return BuildSummary(result, time.perf_counter() - started, workers, len(units), reused)


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for the dataset")
    known = (out / MANIFEST_NAME).exists() or (out / MARKER_FOLDER).exists()
    if out.is_dir() and not known and any(path.suffix != ".tmp" for path in out.iterdir()):
        raise UserError(f"{out} holds something else than a dataset: name a new or empty folder")


def _resolved_settings(config: BuildConfig, sources: tuple[Source, ...], tokenizer: WordPieces) -> dict[str, Any]:
    """All that decides the bytes of the dataset, as it stands in the manifest: no paths of this machine."""
    names = ("text_field", "language", "unit_documents", "block_records", "min_words", "max_words", "max_pieces")
    return {
        "inputs": [
            {"name": s.name, "format": s.format, "bytes": s.size, "sha256": sha256_of_file(s.path)} for s in sources
        ],
        **{name: getattr(config, name) for name in names},
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "versions": {name: version(name) for name in ("sentencex", "spacy", "tokenizers")},
    }


def _finished_manifest(out: Path, settings: dict[str, Any], tokenizer: WordPieces) -> Manifest | None:
    if not (out / MANIFEST_NAME).exists():
        return None
    found = manifest.load(out)
    different = [key for key in settings if found.build.get(key) != settings[key]]
    if different:
        raise UserError(
            f"{out} holds a finished dataset that was built otherwise ({', '.join(different)} differ): "
            "name another folder, or remove this one"
        )
    _logger.info("%s: already built", out)
    shutil.rmtree(out / MARKER_FOLDER, ignore_errors=True)
    return found


def _prepare(
    config: BuildConfig, out: Path, sources: tuple[Source, ...], settings: dict[str, Any], tokenizer: WordPieces
) -> UnitPlan:
    with explain_write_errors(out):
        (out / MARKER_FOLDER).mkdir(parents=True, exist_ok=True)
        tokenizer.save(out / TOKENIZER_FOLDER)
    per_unit = {key: value for key, value in settings.items() if key not in ("inputs", "unit_documents")}
    return UnitPlan(
        out=out,
        sources=sources,
        settings=sha256_of(json.dumps(per_unit, sort_keys=True).encode()),
        text_field=config.text_field,
        language=config.language,
        block_records=config.block_records,
        min_words=config.min_words,
        max_words=config.max_words,
        max_pieces=config.max_pieces,
    )


def _run_pipeline(plan: UnitPlan, config: BuildConfig) -> tuple[list[FinishedUnit], int, int]:
    """Build all units; returns them in order, the number of processes that built, and the number found finished."""
    bad_lines = _BadLineLimit(plan.sources, config.max_bad_lines)
    units, processes, reused = [], set(), 0
    with _ray(config.parallelism) as workers:
        for row in _pipeline(plan, config, workers).iter_rows():
            if row["error"]:
                raise UserError(row["error"])
            unit = TypeAdapter(FinishedUnit).validate_json(row["unit"])
            bad_lines.add(unit)
            units.append(unit)
            processes.add(row["process"])
            reused += row["reused"]
    bad_lines.report()
    return sorted(units, key=lambda unit: (unit.input_index, unit.unit_index)), len(processes), reused


def _pipeline(plan: UnitPlan, config: BuildConfig, workers: int | None) -> Any:
    import ray.data

    inputs = ray.data.from_items(
        [{"input": i} for i in range(len(plan.sources))], override_num_blocks=len(plan.sources)
    )
    # One row per block, so that every unit is a task of its own.
    inputs.context.target_max_block_size = 1
    inputs.context.enable_progress_bars = os.isatty(2)
    # The two stages ask for different resources, or Ray would fuse them and build a big file on one core.
    units = inputs.flat_map(
        partial(_read_rows, plan, config.unit_documents), num_cpus=0.5, concurrency=min(len(plan.sources), 8)
    )
    return units.map(partial(_build_row, plan), num_cpus=1, concurrency=workers)


def _read_rows(plan: UnitPlan, unit_documents: int | None, row: Row) -> Iterator[Row]:
    index = int(row["input"])
    try:
        units = read_units(plan.sources[index], index, text_field=plan.text_field, unit_documents=unit_documents)
        for unit in units:
            yield asdict(unit) | {"error": ""}
    except UserError as error:
        # An exception from a task reaches the driver wrapped and logged with its traceback; a row does not.
        yield asdict(WorkUnit(index, 0, 0, b"")) | {"error": str(error)}


def _build_row(plan: UnitPlan, row: Row) -> Row:
    result: Row = {
        "error": row.pop("error"),
        "unit": "",
        "reused": False,
        "process": f"{os.uname().nodename}:{os.getpid()}",
    }
    if not result["error"]:
        try:
            unit, result["reused"] = build_unit(plan, WorkUnit(**row))
            result["unit"] = TypeAdapter(FinishedUnit).dump_json(unit).decode()
        except UserError as error:
            result["error"] = str(error)
    return result


@contextmanager
def _ray(parallelism: int | None) -> Iterator[int | None]:
    """A running Ray, started here (and then stopped here) unless there is one; yields the number of workers to use."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield parallelism
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    else:
        parallelism = parallelism or os.cpu_count() or 1
        # Workers get one core each; the extra one is for reading, which takes next to nothing.
        ray.init(
            address="local", num_cpus=parallelism + 1, include_dashboard=False, log_to_driver=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
    try:
        yield parallelism
    finally:
        ray.shutdown()


class _BadLineLimit:
    """Counts lines that are no documents, and stops the build when there are too many."""

    def __init__(self, sources: tuple[Source, ...], limit: int) -> None:
        self._sources, self._limit = sources, limit
        self._count = 0
        self._examples: list[str] = []

    def add(self, unit: FinishedUnit) -> None:
        name = self._sources[unit.input_index].name
        self._count += unit.statistics.bad_lines
        self._examples += [f"{name}:{bad.line}: {bad.reason}" for bad in unit.bad_lines]
        if self._count > self._limit:
            raise UserError(
                f"more than {self._limit} bad lines (--max-bad-lines), such as {'; '.join(self._examples[:3])}"
            )

    def report(self) -> None:
        if self._count:
            _logger.warning("%d bad lines skipped, such as %s", self._count, "; ".join(self._examples[:5]))


def _finish(
    config: BuildConfig, plan: UnitPlan, settings: dict[str, Any], tokenizer: WordPieces, units: list[FinishedUnit]
) -> Manifest:
    shards = tuple(unit.shard for unit in units if unit.shard is not None)
    if not shards:
        raise UserError("no sentence was kept: the inputs are empty or the limits too narrow")
    result = Manifest(
        name=config.name or plan.out.name,
        shardlist=shards,
        layers=LAYERS,
        block_records=config.block_records,
        max_pieces=config.max_pieces,
        tokenizer=_tokenizer_info(plan.out / TOKENIZER_FOLDER, tokenizer),
        build=settings,
        statistics=sum((unit.statistics for unit in units), Statistics()),
    )
    with explain_write_errors(plan.out):
        _remove_other_shards(plan.out, shards)
        result.save(plan.out)
    shutil.rmtree(plan.out / MARKER_FOLDER, ignore_errors=True)
    return result


def _tokenizer_info(folder: Path, tokenizer: WordPieces) -> TokenizerInfo:
    return TokenizerInfo(
        folder=folder.name,
        files={path.name: sha256_of_file(path) for path in sorted(folder.glob("*.json"))},
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        lowercase=tokenizer.lowercase,
        special_ids=tokenizer.special_ids,
    )


def _remove_other_shards(out: Path, shards: tuple[Shard, ...]) -> None:
    """Remove shards of an earlier, unfinished build with other settings."""
    kept = {shard.url for shard in shards}
    for path in out.glob("*.tar"):
        if _SHARD_NAME.fullmatch(path.name) and path.name not in kept:
            path.unlink()
