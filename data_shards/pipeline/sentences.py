"""Documents → sentences: each sentence a record of its own, with entities, ids and relations; see `derive`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.pipeline.build_config import SentencesConfig
from data_shards.pipeline.derive import derive, open_source
from data_shards.pipeline.document_records import (
    DocumentRecords,
    Mentions,
    RecordEntities,
    Relations,
    facts_of_records,
)
from data_shards.pipeline.finished_unit import UnitContent
from data_shards.pipeline.unit_pipeline import STOPPED_TEXT, BuildSummary, Units
from data_shards.ragged import Ragged
from data_shards.shards.manifest import Manifest, Statistics, layer_sizes
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import RELATIONS, Records
from data_shards.stop_requests import stopped_on_request

_SPECIALS_PER_RECORD = 2


@dataclass(frozen=True)
class SentencesStep:
    """Cuts the documents of a shard; entities and relations are counted in a sentence, the latter as ordered pairs."""

    entities: Mapping[str, Any]
    """Settings of the source's entities."""
    min_entities: int
    min_facts: int
    most_pieces: int

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the source's entities, and the limits of a sentence."""
        return {
            "entities": {**self.entities, "min_entities": self.min_entities},
            "min_facts": self.min_facts,
            "max_pieces": self.most_pieces,
        }

    def max_pieces(self, source: Manifest) -> int:
        """What was asked for, or what a document can have."""
        return min(self.most_pieces, source.max_pieces)

    def content(self, source: ShardReader, shard: int) -> UnitContent:
        """The sentences that are kept."""
        records = source.read_shard(shard)
        documents = sentences_of(records)
        pieces = documents.records.pieces.lengths + _SPECIALS_PER_RECORD
        reasons = {
            "too_many_pieces": pieces > self.most_pieces,
            "too_few_entities": documents.entities.keys.lengths < self.min_entities,
            "too_few_facts": documents.pairs < self.min_facts,
        }
        kept, dropped = np.ones(len(documents), dtype=np.bool_), {}
        for reason, mask in reasons.items():
            dropped[reason] = int((kept & mask).sum())
            kept &= ~mask
        sentences = documents.keep(kept).with_layers()
        unknown = source.manifest.tokenizer.special_ids.unk
        statistics = Statistics(
            documents=len(records),
            sentences=len(documents),
            records=len(sentences),
            dropped=dropped,
            unknown_pieces=int((sentences.pieces.values == unknown).sum()),
            **layer_sizes(sentences),
        )
        types, relations = len(source.manifest.entity_types), len(source.manifest.relation_types)
        return UnitContent(sentences, statistics, types=types, relations=relations)


def sentences_of(records: Records) -> DocumentRecords:
    """All sentences of N documents, in order, as records with what is within them."""
    starts, mention_rows = records.layers["sentence_starts"], records.entities.values.astype(np.int64)
    first_words = starts.values + records.word_starts.offsets[starts.row_index()]
    word_offsets = np.append(first_words, len(records.word_starts.values))
    piece_offsets = records.word_bounds[word_offsets]
    word_starts = records.first_pieces - np.repeat(piece_offsets[:-1], np.diff(word_offsets))
    sentences = Records(Ragged(records.pieces.values, piece_offsets), Ragged(word_starts, word_offsets))
    count = len(sentences)
    mentions, knowledge = records.entities, records.layers["knowledge_ids"]
    begins = records.word_starts.offsets[mentions.row_index()]
    words = mention_rows[:, :2] + begins[:, None]
    sentence = np.searchsorted(first_words, words[:, 0], side="right") - 1
    # An entity's key is its number over all documents, so that sentences of a document share it.
    keys = records.layers["mention_entities"].values + knowledge.offsets[mentions.row_index()]
    found = Mentions(
        records=sentence,
        words=words - first_words[sentence, None],
        types=mention_rows[:, 2],
        keys=keys,
        knowledge_ids=knowledge.values.astype(np.int64)[keys],
        places=np.zeros((len(keys), 3), dtype=np.int64),
    )
    relations = records.layers[RELATIONS]
    facts = relations.values.astype(np.int64)
    facts[:, :2] += knowledge.offsets[relations.row_index()][:, None]
    within = facts_of_records(RecordEntities.of(found, count), facts)
    alone = Ragged.from_lengths(np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64))
    return DocumentRecords(sentences, alone, found, Relations(within.records, within.rows))


@stopped_on_request(STOPPED_TEXT)
def cut_sentences(config: SentencesConfig) -> BuildSummary:
    """Write a dataset of the sentences of documents, or go on with an unfinished one, or find it finished.

    Raises:
        UserError: the dataset or the surroundings are at fault; the message says which and what to do.
    """
    source = open_source(config.dataset)
    source.manifest.require_documents(config.dataset)
    step = SentencesStep(source.manifest.build["entities"], config.min_entities, config.min_facts, config.max_pieces)

    def finish(manifest: Manifest, units: Units) -> Manifest:
        if not units.shards:
            raise UserError(
                f"no sentence of {config.dataset} has {counted(config.min_entities, 'entity')} and "
                f"{counted(config.min_facts, 'related pair')} (--min-entities, --min-facts)"
            )
        names = {code: relation.name for code, relation in manifest.relation_types.items()}
        return replace(
            manifest,
            statistics=units.statistics,
            entity_types=units.entity_types(tuple(manifest.entity_types)),
            relation_types=units.relation_types(names),
        )

    return derive(
        source, config.out, step, origin="documents_cut", name=config.name, workers=config.workers, finish=finish
    )
