"""A dataset → the same with entities: one shard for each of its shards, as a Ray Data pipeline.

    shard ──RecordWords──▶ words ──NerPipeline──▶ entities ──▶ shard + marker ──(all shards)──▶ manifest.json

What is finished is kept, as in a build (`unit_pipeline`), and the bytes are the same at any number of workers.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from tokenizers import Tokenizer

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, remove_temporary_files, sha256_of, write_atomically
from data_shards.pipeline.build_config import AnnotateConfig
from data_shards.pipeline.finished_unit import (
    MARKER_FOLDER,
    TOKENIZER_FOLDER,
    FinishedUnit,
    ShardFormat,
    UnitContent,
    finish_unit,
)
from data_shards.pipeline.ner_pipeline import EntityPlan, NerPipeline, pipeline_of_worker
from data_shards.pipeline.unit_pipeline import (
    STOPPED_TEXT,
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
from data_shards.shards.manifest import Manifest, Statistics, layer_sizes
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import ENTITIES, Records
from data_shards.shards.record_words import RecordWords
from data_shards.stop_requests import stopped_on_request


@dataclass(frozen=True)
class AnnotatePlan:
    """All a worker needs: `settings` is the fingerprint of what decides bytes, beside the shard itself."""

    out: Path
    dataset: str
    fingerprint: str
    entities: EntityPlan
    settings: str


@stopped_on_request(STOPPED_TEXT)
def annotate(config: AnnotateConfig) -> BuildSummary:
    """Write a dataset with entities, or go on with an unfinished one, or find it finished.

    Raises:
        UserError: the dataset, the pipeline or the surroundings are at fault; the message says which and what to do.
    """
    started = time.perf_counter()
    out = config.out.absolute()
    check_folder(out)
    source = _open_source(config)
    info = NerPipeline(config.ner).info
    entities = EntityPlan(info.types, info, config.min_entities)
    settings = {
        "entities": entities.settings,
        "annotated": {"fingerprint": source.manifest.fingerprint, "build": source.manifest.build},
    }
    try:
        finished = finished_manifest(out, settings)
        if finished is not None:
            return BuildSummary(finished, time.perf_counter() - started, workers=0, units=0, units_reused=0)
        _prepare(out, source)
        units = _run_pipeline(_plan(out, source, entities), len(source.manifest.shardlist), config.workers)
        if not units.shards:
            raise UserError(f"no record has {config.min_entities} entities (--min-entities): check {config.ner}")
        result = _manifest(source.manifest, units, info.types)
        result = finish_dataset(out, replace(result, name=config.name or out.name, build=settings))
    finally:
        if out.is_dir():
            remove_temporary_files(out)
    return BuildSummary(result, time.perf_counter() - started, units.workers, len(units.finished), units.reused)


def _open_source(config: AnnotateConfig) -> ShardReader:
    location = config.dataset if is_remote(config.dataset) else str(Path(config.dataset).absolute())
    source = ShardReader(location)
    if ENTITIES in source.manifest.layers:
        raise UserError(f"{config.dataset} already has entities: name the dataset that it was made from")
    return source


def _prepare(out: Path, source: ShardReader) -> None:
    with explain_write_errors(out):
        (out / MARKER_FOLDER).mkdir(parents=True, exist_ok=True)
        (out / TOKENIZER_FOLDER).mkdir(exist_ok=True)
        folder = source.tokenizer_folder()
        for name in source.manifest.tokenizer.files:
            write_atomically(out / TOKENIZER_FOLDER / name, (folder / name).read_bytes())


def _plan(out: Path, source: ShardReader, entities: EntityPlan) -> AnnotatePlan:
    settings = sha256_of(json.dumps(entities.settings, sort_keys=True).encode())
    return AnnotatePlan(out, str(source.location), source.manifest.fingerprint, entities, settings)


def _run_pipeline(plan: AnnotatePlan, shards: int, workers: int | None) -> Units:
    with running_ray(workers) as running:
        rows = rows_of_their_own([{"shard": index} for index in range(shards)])
        return collect(rows.map(partial(_annotate_row, plan), num_cpus=1, concurrency=running).iter_rows())


def _annotate_row(plan: AnnotatePlan, row: Row) -> Row:
    return finish_row(row, lambda unit: annotate_shard(plan, int(unit["shard"])))


def annotate_shard(plan: AnnotatePlan, index: int) -> tuple[FinishedUnit, bool]:
    """Annotate a shard, or find it done; the second value tells whether it was found.

    Raises:
        UserError: the shard is damaged, the pipeline is another one here, or the output folder cannot be written.
    """
    source, words = _source_of_worker(plan.dataset, plan.fingerprint)
    shard, tokenizer = source.manifest.shardlist[index], source.manifest.tokenizer
    return finish_unit(
        plan.out,
        Path(shard.url).stem,
        (0, index),
        sha256_of(f"{plan.settings} {shard.sha256}".encode()),
        lambda: _content(plan.entities, source.read_shard(index), words, unknown=tokenizer.special_ids.unk),
        lambda: ShardFormat(source.manifest.block_records, source.manifest.max_pieces, tokenizer.vocab_size),
    )


@lru_cache(maxsize=1)
def _source_of_worker(location: str, fingerprint: str) -> tuple[ShardReader, RecordWords]:
    source = ShardReader(location)
    if source.manifest.fingerprint != fingerprint:
        raise UserError(f"{location}: the dataset differs between machines")
    return source, RecordWords(Tokenizer.from_file(str(source.tokenizer_folder() / "tokenizer.json")))


def _content(plan: EntityPlan, records: Records, words: RecordWords, *, unknown: int) -> UnitContent:
    assert plan.ner is not None
    entities = pipeline_of_worker(plan.ner).find(words.words(records))
    kept = plan.keep_eligible(records.with_layer(ENTITIES, entities))
    statistics = Statistics(
        records=len(kept),
        dropped={"too_few_entities": len(records) - len(kept)},
        unknown_pieces=int((kept.pieces.values == unknown).sum()),
        **layer_sizes(kept),
    )
    return UnitContent(kept, statistics, types=len(plan.types))


def _manifest(source: Manifest, units: Units, types: tuple[str, ...]) -> Manifest:
    """The source's, with what became of its records."""
    found = units.statistics
    statistics = replace(
        found,
        documents=source.statistics.documents,
        sentences=source.statistics.sentences,
        bad_lines=source.statistics.bad_lines,
        dropped={**source.statistics.dropped, **found.dropped},
    )
    return replace(
        source,
        shardlist=units.shards,
        layers=(*source.layers, ENTITIES),
        tokenizer=replace(source.tokenizer, folder=TOKENIZER_FOLDER),
        statistics=statistics,
        entity_types=units.entity_types(types),
    )
