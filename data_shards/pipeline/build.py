"""Text → a dataset of shards, as a Ray Data pipeline: read units → build units → manifest.

    inputs ──read_units──▶ one block per work unit ──build_unit──▶ shard + marker ──(all units)──▶ manifest.json

Reading is one task per input and cheap; building is one task per unit and runs on every core. Where duplicates are to
be dropped, these shards lie in a hidden folder, and those without are made from all of them (`dedup`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_shards.annotated.docred import load_relation_names
from data_shards.annotated.offset_trial import try_documents
from data_shards.annotated.read_report import ReadReport
from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, remove_temporary_files, sha256_of, sha256_of_file
from data_shards.input.stream import STANDARD_INPUT
from data_shards.pipeline.build_config import BuildConfig
from data_shards.pipeline.corpus import (
    Source,
    WorkUnit,
    check_has_text,
    check_lists_entities,
    parse_annotated,
    read_units,
    resolve_sources,
)
from data_shards.pipeline.dedup import drop_duplicates
from data_shards.pipeline.document_plan import DocumentPlan, ExcludedPlan, KnowledgePlan
from data_shards.pipeline.document_unit import LINKED_TYPE, UNIT_DOCUMENTS
from data_shards.pipeline.finished_unit import MARKER_FOLDER, TOKENIZER_FOLDER, FinishedUnit
from data_shards.pipeline.ner_pipeline import EntityPlan, NerPipeline
from data_shards.pipeline.unit_builder import TEXT_RULES, UnitPlan, build_unit
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
from data_shards.shards.manifest import MAX_ENTITY_TYPES, Manifest, TokenizerInfo
from data_shards.shards.record import DOCUMENT_LAYERS, ENTITIES, MAX_RELATIONS, TEXT_LAYERS
from data_shards.stop_requests import stopped_on_request
from data_shards.text.offset_units import OffsetUnit
from data_shards.text.word_pieces import WordPieces

_WITH_DUPLICATES = f"{MARKER_FOLDER}/with_duplicates"  # where shards are until their duplicates are dropped
_logger = logging.getLogger(__name__)


def build(config: BuildConfig) -> Manifest:
    """Build a dataset, or go on with an unfinished one, or find it finished. See `build_with_summary`."""
    return build_with_summary(config).manifest


@stopped_on_request(STOPPED_TEXT)
def build_with_summary(config: BuildConfig) -> BuildSummary:
    """Build a dataset and say how it went.

    Raises:
        UserError: inputs, settings or surroundings are at fault; the message says which and what to do.
    """
    started = time.perf_counter()
    out = config.out.absolute()
    built = out / _WITH_DUPLICATES if config.dedup else out
    check_folder(out)
    _require_outside_of_inputs(out, config.inputs)
    try:
        sources = resolve_sources(config.inputs, config.format, out)
        tokenizer = WordPieces.load(config.tokenizer, language=config.language, lowercase=config.lowercase)
        entities, documents = _plan_entities(config, sources)
        settings = _resolved_settings(config, sources, tokenizer, entities, documents)
        finished = finished_manifest(out, settings)
        if finished is not None:
            return BuildSummary(finished, time.perf_counter() - started, workers=0, units=0, units_reused=0)
        plan = _prepare(config, built, sources, settings, tokenizer, entities, documents)
        with running_ray(config.parallelism) as workers:
            units = _run_pipeline(plan, config, workers)
            result = _manifest(config, plan, settings, tokenizer, units)
            if config.dedup:
                result = drop_duplicates(result, built, out, workers)
        result = finish_dataset(out, result)
    finally:
        for folder in {out, built}:
            if folder.is_dir():
                remove_temporary_files(folder)
    return BuildSummary(result, time.perf_counter() - started, units.workers, len(units.finished), units.reused)


def _require_outside_of_inputs(out: Path, inputs: Sequence[str]) -> None:
    """Refuse a folder whose files would be inputs as soon as they are there."""
    for name in inputs:
        if name != STANDARD_INPUT and Path(name).is_dir() and out.resolve().is_relative_to(Path(name).resolve()):
            raise UserError(
                f"{out} is in the input folder {name}, whose files are all read: name a folder outside of it"
            )


def _plan_entities(config: BuildConfig, sources: tuple[Source, ...]) -> tuple[EntityPlan | None, DocumentPlan | None]:
    if not config.has_gold_entities:
        for source in sources:
            check_has_text(source, config.text_field)
    if config.documents:
        return _plan_documents(config, sources)
    if config.ner:
        info = NerPipeline(config.ner).info
        return EntityPlan(info.types, info, config.min_entities or 0), None
    if config.gold_entities:
        types = _gold_types(sources, config.text_field, config.offsets, config.language)
        return EntityPlan(types, None, config.min_entities or 0, config.offsets), None
    return None, None


def _plan_documents(config: BuildConfig, sources: tuple[Source, ...]) -> tuple[EntityPlan, DocumentPlan]:
    chosen, excluded = config.document_filter, None
    if config.exclude_facts:
        excluded = ExcludedPlan.of(config.exclude_facts)
    if config.kb is None:
        relations: dict[str, str] = {}
        types = _gold_types(sources, config.text_field, config.offsets, config.language, relations)
        entities = EntityPlan(types, None, chosen.min_entities, config.offsets)
        return entities, DocumentPlan(chosen, relations, excluded=excluded)
    knowledge, relations = KnowledgePlan.of(str(config.kb), config.language, keep_unlinked=config.unlinked)
    info = NerPipeline(config.ner).info if config.ner else None
    entities = EntityPlan(info.types if info else (LINKED_TYPE,), info, chosen.min_entities, are_linked=True)
    return entities, DocumentPlan(chosen, relations, knowledge, excluded)


def _gold_types(
    sources: tuple[Source, ...],
    text_field: str,
    offsets: OffsetUnit = "characters",
    language: str = "en",
    relations: dict[str, str] | None = None,
) -> tuple[str, ...]:
    """All types of the inputs, sorted: ids must be known before any unit is built. Warns of strange offsets.

    Args:
        sources: the inputs.
        text_field: field that holds the text.
        offsets: what offsets in a text count.
        language: whose rules cut a text.
        relations: gets the codes of all relations, sorted, and their names, for documents.
    """
    types, codes, names = set[str](), set[str](), dict[str, str]()
    for index, source in enumerate(sources):
        check_lists_entities(source, text_field)
        for unit in read_units(source, index, text_field=text_field):
            report = None if relations is None else ReadReport(source.path, "unknown")
            documents, _ = parse_annotated(unit, source.format, text_field, offsets, language, report)
            codes |= {fact.type for document in documents for fact in document.facts}
            names = (report.relation_names if report else {}) | names  # the first one stays
            if unit.unit_index == 0:
                for warning in try_documents(documents, offsets, language, source.name):
                    _logger.warning(warning)
            types |= {mention.type for document in documents for mention in document.mentions}
            if len(types) > MAX_ENTITY_TYPES:
                raise UserError(
                    f"{source.name}: more than {MAX_ENTITY_TYPES} types of entities, such as "
                    f"{', '.join(sorted(types)[:3])}: check that these are types, not names"
                )
        if relations is not None:
            names |= load_relation_names(source.path.parent)
    if relations is not None:
        _check_relations(codes, sources)
        relations |= {code: names.get(code, code) for code in sorted(codes)}
    if not types:
        raise UserError(
            f"no entities in {', '.join(source.name for source in sources)}: check that these are the right files"
        )
    return tuple(sorted(types))


def _check_relations(codes: set[str], sources: tuple[Source, ...]) -> None:
    if not codes:
        named = ", ".join(source.name for source in sources)
        raise UserError(
            f"no relations between entities in {named}: check that these are the right files; --kb FOLDER finds them "
            "in plain text"
        )
    if len(codes) > MAX_RELATIONS:
        raise UserError(
            f"more than {MAX_RELATIONS} relations, such as {', '.join(sorted(codes)[:3])}: check that these are "
            "relations, not names"
        )


def _resolved_settings(
    config: BuildConfig,
    sources: tuple[Source, ...],
    tokenizer: WordPieces,
    entities: EntityPlan | None,
    documents: DocumentPlan | None,
) -> dict[str, Any]:
    """All that decides the bytes of the dataset, as it stands in the manifest: no paths of this machine."""
    names = ("text_field", "language", "unit_documents", "block_records")
    return {
        "inputs": [
            {"name": s.name, "format": s.format, "bytes": s.size, "sha256": sha256_of_file(s.path)} for s in sources
        ],
        **{name: getattr(config, name) for name in names},
        **vars(config.limits),
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "text_rules": TEXT_RULES,
        "versions": {name: version(name) for name in ("sentencex", "spacy", "tokenizers")},
        "entities": entities.settings if entities else None,
        **({"documents": documents.settings} if documents else {}),
        **({"dedup": True} if config.dedup else {}),
    }


def _prepare(
    config: BuildConfig,
    out: Path,
    sources: tuple[Source, ...],
    settings: dict[str, Any],
    tokenizer: WordPieces,
    entities: EntityPlan | None,
    documents: DocumentPlan | None,
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
        limits=config.limits,
        entities=entities,
        documents=documents,
    )


def _run_pipeline(plan: UnitPlan, config: BuildConfig, workers: int | None) -> Units:
    bad_lines = _BadLineLimit(plan.sources, config.max_bad_lines)
    units = collect(_pipeline(plan, config, workers).iter_rows(), bad_lines.add)
    bad_lines.report()
    return units


def _pipeline(plan: UnitPlan, config: BuildConfig, workers: int | None) -> Any:
    inputs = rows_of_their_own([{"input": index} for index in range(len(plan.sources))])
    # The two stages ask for different resources, or Ray would fuse them and build a big file on one core.
    units = inputs.flat_map(
        partial(_read_rows, plan, config.unit_documents), num_cpus=0.5, concurrency=min(len(plan.sources), 8)
    )
    return units.map(partial(_build_row, plan), num_cpus=1, concurrency=workers)


def _read_rows(plan: UnitPlan, unit_documents: int | None, row: Row) -> Iterator[Row]:
    index = int(row["input"])
    try:
        documents = unit_documents or (UNIT_DOCUMENTS if plan.documents else None)
        units = read_units(plan.sources[index], index, text_field=plan.text_field, unit_documents=documents)
        for unit in units:
            yield asdict(unit) | {"error": ""}
    except UserError as error:
        yield asdict(WorkUnit(index, 0, 0, b"")) | {"error": str(error)}


def _build_row(plan: UnitPlan, row: Row) -> Row:
    return finish_row(row, lambda unit: build_unit(plan, WorkUnit(**unit)))


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
                f"more than {counted(self._limit, 'bad line')} (--max-bad-lines), such as "
                f"{'; '.join(self._examples[:3])}"
            )

    def report(self) -> None:
        if self._count:
            _logger.warning("%d bad lines skipped, such as %s", self._count, "; ".join(self._examples[:5]))


def _manifest(
    config: BuildConfig, plan: UnitPlan, settings: dict[str, Any], tokenizer: WordPieces, units: Units
) -> Manifest:
    if not units.shards:
        raise UserError(_nothing_kept(units, plan))
    return Manifest(
        name=config.name or config.out.absolute().name,
        shardlist=units.shards,
        layers=(
            *TEXT_LAYERS,
            *([ENTITIES] if plan.entities else []),
            *(DOCUMENT_LAYERS if plan.documents else []),
        ),
        block_records=config.block_records,
        max_pieces=config.limits.max_pieces,
        tokenizer=_tokenizer_info(plan.out / TOKENIZER_FOLDER, tokenizer),
        build=settings,
        statistics=units.statistics,
        entity_types=units.entity_types(plan.entities.types) if plan.entities else {},
        relation_types=units.relation_types(plan.documents.relations) if plan.documents else {},
    )


def _nothing_kept(units: Units, plan: UnitPlan) -> str:
    if not plan.documents:
        return "no sentence was kept: the input is empty or the limits are too strict"
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in units.statistics.dropped.items() if count)
    return f"no record of a document was kept (dropped: {dropped or 'none'}): relax the limits, or check the input"


def _tokenizer_info(folder: Path, tokenizer: WordPieces) -> TokenizerInfo:
    return TokenizerInfo(
        folder=folder.name,
        files={path.name: sha256_of_file(path) for path in sorted(folder.glob("*.json"))},
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        lowercase=tokenizer.lowercase,
        special_ids=tokenizer.special_ids,
    )
