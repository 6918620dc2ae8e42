"""A dataset → the same with entities: shard → words (`RecordWords`) → entities (`NerPipeline`); see `derive`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.pipeline.build_config import AnnotateConfig
from data_shards.pipeline.derive import derive, open_source
from data_shards.pipeline.finished_unit import UnitContent
from data_shards.pipeline.ner_pipeline import EntityPlan, NerPipeline, pipeline_of_worker
from data_shards.pipeline.unit_pipeline import STOPPED_TEXT, BuildSummary, Units
from data_shards.shards.manifest import Manifest, Statistics, layer_sizes
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import ENTITIES
from data_shards.shards.record_words import RecordWords
from data_shards.stop_requests import stopped_on_request


@dataclass(frozen=True)
class AnnotateStep:
    """Finds the entities of a shard."""

    entities: EntityPlan

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of entities, as in the manifest of a build."""
        return {"entities": self.entities.settings}

    def max_pieces(self, source: Manifest) -> int:
        """Same limit as the source's."""
        return source.max_pieces

    def content(self, source: ShardReader, shard: int) -> UnitContent:
        """The records with entities."""
        records = source.read_shard(shard)
        plan = self.entities
        assert plan.ner is not None
        words = _words_of_worker(str(source.tokenizer_folder() / "tokenizer.json"))
        entities = pipeline_of_worker(plan.ner).find(words.words(records))
        kept = plan.keep_eligible(records.with_layer(ENTITIES, entities))
        unknown = source.manifest.tokenizer.special_ids.unk
        statistics = Statistics(
            records=len(kept),
            dropped={"too_few_entities": len(records) - len(kept)},
            unknown_pieces=int((kept.pieces.values == unknown).sum()),
            **layer_sizes(kept),
        )
        return UnitContent(kept, statistics, types=len(plan.types))


@lru_cache(maxsize=1)
def _words_of_worker(tokenizer: str) -> RecordWords:
    return RecordWords(Tokenizer.from_file(tokenizer))


@stopped_on_request(STOPPED_TEXT)
def annotate(config: AnnotateConfig) -> BuildSummary:
    """Write a dataset with entities, or go on with an unfinished one, or find it finished.

    Raises:
        UserError: the dataset, the pipeline or the surroundings are at fault; the message says which and what to do.
    """
    source = open_source(config.dataset)
    if ENTITIES in source.manifest.layers:
        raise UserError(f"{config.dataset} already has entities: name the dataset that it was made from")
    info = NerPipeline(config.ner).info

    def finish(manifest: Manifest, units: Units) -> Manifest:
        if not units.shards:
            least = counted(config.min_entities, "entity")
            raise UserError(f"no record has {least} (--min-entities): check {config.ner}")
        return _manifest(manifest, units, info.types)

    step = AnnotateStep(EntityPlan(info.types, info, config.min_entities))
    return derive(source, config.out, step, origin="annotated", name=config.name, workers=config.workers, finish=finish)


def _manifest(source: Manifest, units: Units, types: tuple[str, ...]) -> Manifest:
    """Manifest of the source, with the new statistics of its records."""
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
        layers=(*source.layers, ENTITIES),
        statistics=statistics,
        entity_types=units.entity_types(types),
    )
