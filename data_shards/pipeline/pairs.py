"""Sentences → pairs of sentences, each a record, for matching the blanks (MTB); see `derive`.

sentences → facts of linked entities                                                          `FactTable`
→ positives: two facts of the same head and tail; negatives: one of the two is another        `choose_pairs`
→ records of two sentences with the two entities of each, and the fact between them           `join_pairs`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_shards.errors import UserError
from data_shards.pipeline.build_config import PairConfig
from data_shards.pipeline.derive import derive, open_source
from data_shards.pipeline.finished_unit import UnitContent
from data_shards.pipeline.unit_pipeline import STOPPED_TEXT, BuildSummary, Units
from data_shards.ragged import IntArray, Ragged, concat_ranges
from data_shards.shards.manifest import Manifest, Statistics, layer_sizes
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import BLOCKED, RELATIONS, UNLINKED, Records
from data_shards.stop_requests import stopped_on_request

ORIGIN = "sentences_paired"
_SPECIALS_PER_RECORD = 2
_PAIRS = 7  # keeps these random numbers apart from others of the seed

_Indices = NDArray[np.int64]


@dataclass(frozen=True)
class FactTable:
    """F facts of sentences, one for each ordered pair of linked entities of a sentence, in their order."""

    sentences: _Indices
    """Id of the sentence of each, [F] ascending."""
    rows: _Indices
    """Which row of its sentence's relations each is: the first of its pair, [F]."""
    heads: _Indices
    """What the knowledge base calls the head, [F]."""
    tails: _Indices
    """What the knowledge base calls the tail, [F]."""

    @classmethod
    def of(cls, records: Records, first_id: int) -> FactTable:
        """The facts of the records with ids from `first_id` on; those of blocked pairs are left out."""
        relations, knowledge = records.layers[RELATIONS], records.layers["knowledge_ids"]
        sentence, values = relations.row_index(), relations.values.astype(np.int64)
        entities = values[:, :2] + knowledge.offsets[sentence][:, None]
        ids = knowledge.values.astype(np.int64)[entities]
        is_first = np.ones(len(values), dtype=np.bool_)
        is_first[1:] = (entities[1:] != entities[:-1]).any(axis=1)
        kept = np.flatnonzero(is_first & (values[:, 2] != BLOCKED) & (ids != UNLINKED).all(axis=1))
        rows = kept - relations.offsets[sentence[kept]]
        return cls(sentence[kept] + first_id, rows, ids[kept, 0], ids[kept, 1])

    @classmethod
    def of_dataset(cls, source: ShardReader) -> FactTable:
        """The facts of all sentences."""
        parts = [cls.of(source.read_shard(shard), int(first)) for shard, first in enumerate(source.first_ids[:-1])]
        columns = zip(*((part.sentences, part.rows, part.heads, part.tails) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


def choose_pairs(heads: IntArray, tails: IntArray, *, most: int, seed: int) -> tuple[_Indices, _Indices]:
    """Pairs of facts of two sentences.

    Of the facts of an ordered pair of entities, up to `most` are drawn, and all two of them are a positive pair. For
    each of these a negative is drawn: its first fact with one that has the same head and another tail, or the same tail
    and another head, if there is any.

    Args:
        heads: heads of each fact, [F].
        tails: tails of each fact, [F].
        most: facts of an ordered pair of entities.
        seed: seed of the draws.

    Returns:
        Positives [P, 2] and negatives [at most P, 2], numbers of facts.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_PAIRS, seed))))
    order = np.lexsort((generator.random(len(heads)), tails, heads))
    first, size = _groups(np.stack([heads, tails])[:, order])
    rank, drawn = np.arange(len(order)) - first, np.minimum(size, most)
    later = np.where(rank < drawn, drawn - 1 - rank, 0)  # facts of its pair that a fact is still to be paired with
    place = np.repeat(np.arange(len(order)), later)
    positives = np.stack([order[place], order[place + 1 + concat_ranges(np.zeros_like(later), later)]], axis=1)
    of_head, of_tail, anchors = _Sharing.of(heads, tails), _Sharing.of(tails, heads), positives[:, 0]
    counts = of_head.counts[anchors] + of_tail.counts[anchors]
    numbers = (generator.random(len(anchors)) * counts).astype(np.int64)[counts > 0]
    anchors = anchors[counts > 0]
    by_head = numbers < of_head.counts[anchors]
    negatives = np.empty_like(anchors)
    negatives[by_head] = of_head.take(anchors[by_head], numbers[by_head])
    numbers -= of_head.counts[anchors]
    negatives[~by_head] = of_tail.take(anchors[~by_head], numbers[~by_head])
    return positives, np.stack([anchors, negatives], axis=1)


@dataclass(frozen=True)
class _Sharing:
    """Facts sorted by an id and then by another: facts that share the id, or both ids, are neighbours."""

    order: _Indices
    first: _Indices
    """For each fact, the place of the first fact that shares its id, [F]."""
    first_of_pair: _Indices
    """For each fact, the place of the first fact that shares both ids, [F]."""
    pairs: _Indices
    """For each fact, the number of facts that share both ids, [F]."""
    counts: _Indices
    """For each fact, the number of facts that share this id only, [F]."""

    @classmethod
    def of(cls, ids: IntArray, others: IntArray) -> _Sharing:
        order = np.lexsort((others, ids))
        first, size = _groups(ids[None, order])
        first_of_pair, pairs = _groups(np.stack([ids, others])[:, order])
        columns = np.empty((4, len(order)), dtype=np.int64)
        columns[:, order] = first, first_of_pair, pairs, size - pairs
        return cls(order, *columns)

    def take(self, facts: IntArray, numbers: IntArray) -> _Indices:
        """For each fact, the one with the given number among the facts that share its id only."""
        places = self.first[facts] + numbers
        return self.order[places + np.where(places >= self.first_of_pair[facts], self.pairs[facts], 0)]


def _groups(keys: IntArray) -> tuple[_Indices, _Indices]:
    """For each column of sorted keys [n, F], the first column equal to it and the number of equal ones; [F] each."""
    begins = np.ones(keys.shape[1], dtype=np.bool_)
    begins[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    firsts = np.flatnonzero(begins)
    sizes = np.diff(np.append(firsts, keys.shape[1]))
    return np.repeat(firsts, sizes), np.repeat(sizes, sizes)


def join_pairs(sentences: Records, rows: IntArray) -> Records:
    """Records of two sentences each, with the two entities of one fact of each.

    Entities of the two are different ones, whatever the knowledge base calls them.

    Args:
        sentences: 2 R of them, each pair one after the other.
        rows: number of the fact among the relations of its sentence, [2 R].
    """
    layers, count = sentences.layers, len(sentences)
    fact = layers[RELATIONS].values[layers[RELATIONS].offsets[:-1] + rows].astype(np.int64)
    low, high = np.minimum(fact[:, 0], fact[:, 1]), np.maximum(fact[:, 0], fact[:, 1])
    second = np.arange(count) % 2
    mention_sentence = sentences.entities.row_index()
    mentioned = layers["mention_entities"].values.astype(np.int64)
    kept = (mentioned == low[mention_sentence]) | (mentioned == high[mention_sentence])
    mention_sentence, mentioned = mention_sentence[kept], mentioned[kept]
    is_high = mentioned == high[mention_sentence]
    words, pieces = sentences.word_starts.lengths, sentences.pieces.lengths
    words_before = np.where(second == 1, np.roll(words, 1), 0)
    pieces_before = np.where(second == 1, np.roll(pieces, 1), 0)
    entities = sentences.entities.values[kept].astype(np.int64)
    entities[:, :2] += words_before[mention_sentence, None]
    mention_counts = np.bincount(mention_sentence, minlength=count)
    knowledge = layers["knowledge_ids"]
    ids = knowledge.values[np.stack([low, high], axis=1) + knowledge.offsets[:-1, None]]
    relations = np.stack([fact[:, 0] == high, fact[:, 1] == high, fact[:, 2]], axis=1)
    relations[:, :2] += 2 * second[:, None]
    ones = np.ones(count, dtype=np.int64)
    return Records(
        pieces=_two_by_two(sentences.pieces.values, pieces),
        words=_two_by_two(sentences.word_starts.values + np.repeat(pieces_before, words), words),
        entities=_two_by_two(entities, mention_counts),
        sentence_starts=_two_by_two(words_before, ones),
        mention_entities=_two_by_two(is_high + 2 * second[mention_sentence], mention_counts),
        knowledge_ids=_two_by_two(ids.reshape(-1), 2 * ones),
        relations=_two_by_two(relations, ones),
    )


def _two_by_two(values: np.ndarray, lengths: IntArray) -> Ragged:
    return Ragged.from_lengths(values, lengths.reshape(-1, 2).sum(axis=1))


@dataclass(frozen=True)
class PairStep:
    """Writes the pairs whose first sentence is in a shard."""

    settings: Mapping[str, Any]
    pairs: _Indices
    """Rows (id of the first sentence, its fact, id of the second sentence, its fact, 1 if positive), sorted, [R, 5]."""

    def max_pieces(self, source: Manifest) -> int:
        """Two sentences in one frame."""
        return 2 * source.max_pieces - _SPECIALS_PER_RECORD

    def content(self, source: ShardReader, shard: int) -> UnitContent:
        """The pairs of a shard, the negatives between the positives."""
        chosen = self.pairs[slice(*np.searchsorted(self.pairs[:, 0], source.first_ids[shard : shard + 2]))]
        sides = chosen[:, :4].reshape(-1, 2)
        joined = join_pairs(source.take(sides[:, 0]), sides[:, 1])
        unknown = source.manifest.tokenizer.special_ids.unk
        positives = int(chosen[:, 4].sum())
        statistics = Statistics(
            sentences=len(sides),
            records=len(joined),
            unknown_pieces=int((joined.pieces.values == unknown).sum()),
            found={"positive_pairs": positives, "negative_pairs": len(joined) - positives},
            **layer_sizes(joined),
        )
        manifest = source.manifest
        types, relations = len(manifest.entity_types), len(manifest.relation_types)
        return UnitContent(joined, statistics, types=types, relations=relations)


@stopped_on_request(STOPPED_TEXT)
def pair_sentences(config: PairConfig) -> BuildSummary:
    """Write a dataset of pairs of sentences, or go on with an unfinished one, or find it finished.

    Raises:
        UserError: the dataset or the surroundings are at fault; the message says which and what to do.
    """
    source = open_source(config.dataset)
    manifest = source.manifest
    manifest.require_documents(config.dataset)
    if "documents_cut" not in manifest.build:
        raise UserError(f"{config.dataset} has no sentences of documents: make them with: spe shards sentences")
    facts = FactTable.of_dataset(source)
    positives, negatives = choose_pairs(facts.heads, facts.tails, most=config.most_sentences, seed=config.seed)
    if not len(facts.sentences):
        raise UserError(
            f"{config.dataset} has no fact of entities with ids of a knowledge base, which tell that two sentences are "
            "about the same ones: build its documents with --kb FOLDER, and cut them with --min-facts 1"
        )
    if not len(positives):
        raise UserError(f"no two sentences of {config.dataset} have a fact of the same two entities: it is too small")
    both = np.concatenate([positives, negatives])
    rows = np.stack([facts.sentences[both], facts.rows[both]], axis=2).reshape(-1, 4)
    rows = np.column_stack([rows, np.arange(len(rows)) < len(positives)])
    settings = {
        "entities": manifest.build["entities"],
        "pairs": {"by": config.by, "most_sentences": config.most_sentences, "seed": config.seed},
        "of": manifest.fingerprint,  # any shard of it decides about every other one
    }
    step = PairStep(settings, rows[np.lexsort(rows.T[::-1])])

    def finish(before: Manifest, units: Units) -> Manifest:
        names = {code: relation.name for code, relation in before.relation_types.items()}
        return replace(
            before,
            statistics=replace(units.statistics, documents=before.statistics.documents),
            entity_types=units.entity_types(tuple(before.entity_types)),
            relation_types=units.relation_types(names),
        )

    return derive(source, config.out, step, origin=ORIGIN, name=config.name, workers=config.workers, finish=finish)
