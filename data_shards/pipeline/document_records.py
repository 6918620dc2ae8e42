"""Sentences, mentions and facts → layers of records that are documents; whole arrays, no loop over records.

Arrays that belong together are columns of one table; an entity of a record is told by its key, a number that its
mentions share and that may mean the same in other records (its number in a knowledge base) or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, Ragged, concat_ranges, offsets_from_lengths
from data_shards.shards.record import BLOCKED, DOCUMENT_LAYERS, ENTITIES, UNLINKED, Records

_PAIRS_AT_A_TIME = 1 << 20

_Indices = NDArray[np.int64]
RelationsOfPairs = Callable[[IntArray, IntArray], tuple[IntArray, IntArray]]
"""Heads and tails of P pairs → number of the pair and relation of each of F facts."""


def pack_sentences(pieces: IntArray, documents: IntArray, most: int) -> _Indices:
    """The record that each sentence is in, [S]; -1 for a sentence with too many pieces, after which a new one begins.

    A record takes sentences of its document as long as they fit.

    Args:
        pieces: pieces of each sentence, [S].
        documents: number of the document of each sentence, ascending, [S].
        most: pieces of a record.
    """
    count = len(pieces)
    fits = pieces <= most
    ends = offsets_from_lengths(pieces)
    # A run is what a record may not reach beyond: sentences of one document without one that is too long.
    begins_run = np.ones(count, dtype=np.bool_)
    begins_run[1:] = (documents[1:] != documents[:-1]) | ~fits[1:] | ~fits[:-1]
    run_starts = np.append(np.flatnonzero(begins_run), count)
    run_end = np.repeat(run_starts[1:], np.diff(run_starts))
    full = np.searchsorted(ends, ends[:-1] + most, side="right") - 1  # the first sentence that does not fit any more
    following = np.maximum(np.minimum(full, run_end), np.arange(count) + 1)
    starts = np.zeros(count, dtype=np.bool_)
    current = run_starts[:-1]
    while len(current):  # the first record of every run, then the second of those that have one
        starts[current] = True
        following_record = following[current]
        current = following_record[following_record < run_end[current]]
    return np.where(fits, np.cumsum(starts & fits) - 1, -1)


@dataclass(frozen=True)
class Mentions:
    """M mentions in the order of their records and words; those of a record do not overlap."""

    records: _Indices
    """Record of each, [M]."""
    words: _Indices
    """First word, and word after the last, in the record, [M, 2]."""
    types: _Indices
    """Type of each, [M]."""
    keys: _Indices
    """Key of the entity of each, [M]."""
    knowledge_ids: _Indices
    """Number in the knowledge base of the entity of each, or UNLINKED, [M]."""
    places: _Indices
    """Where the text of each is: number of the sentence, first character, character after the last, [M, 3]."""

    def take(self, rows: IntArray) -> Mentions:
        """The given mentions."""
        return Mentions(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})

    def of_records(self, kept: NDArray[np.bool_]) -> Mentions:
        """The mentions of records that are kept, which are numbered anew."""
        new = np.cumsum(kept) - 1
        chosen = self.take(np.flatnonzero(kept[self.records]))
        return replace(chosen, records=new[chosen.records])


@dataclass(frozen=True)
class RecordEntities:
    """The K entities of N records, numbered in each record in the order of their first mentions."""

    of_mentions: _Indices
    """Entity of each mention, [M], counted over all records."""
    first_mentions: _Indices
    """First mention of each entity, [K]."""
    keys: Ragged
    """Keys of the entities of each record, [N]."""

    @classmethod
    def of(cls, mentions: Mentions, records: int) -> RecordEntities:
        """The entities that the mentions of `records` records name."""
        order = np.lexsort((mentions.keys, mentions.records))  # stable: the first mention of an entity stays first
        sorted_records, sorted_keys = mentions.records[order], mentions.keys[order]
        begins = np.ones(len(order), dtype=np.bool_)
        begins[1:] = (sorted_records[1:] != sorted_records[:-1]) | (sorted_keys[1:] != sorted_keys[:-1])
        first_mentions = order[begins]
        rank = np.empty(len(first_mentions), dtype=np.int64)
        by_first_mention = np.argsort(first_mentions)
        rank[by_first_mention] = np.arange(len(first_mentions))
        of_mentions = np.empty(len(order), dtype=np.int64)
        of_mentions[order] = rank[np.cumsum(begins) - 1]
        first = first_mentions[by_first_mention]
        counts = np.bincount(mentions.records[first], minlength=records)
        return cls(of_mentions, first, Ragged.from_lengths(mentions.keys[first], counts))

    def numbers(self, entities: IntArray, records: IntArray) -> _Indices:
        """Numbers in their records, of entities that are counted over all."""
        return entities - self.keys.offsets[records]


@dataclass(frozen=True)
class Relations:
    """F facts of N records, unique, in the order of record, head, tail and relation."""

    records: _Indices
    """Record of each, [F]."""
    rows: _Indices
    """Head and tail, numbers of entities in the record, and relation; [F, 3]."""

    @classmethod
    def none(cls) -> Relations:
        """No facts."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.int64))

    @classmethod
    def unique(cls, records: _Indices, rows: _Indices) -> Relations:
        """Facts in any order, possibly repeated."""
        order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0], records))
        records, rows = records[order], rows[order]
        kept = np.flatnonzero(_begins(records, rows))
        return cls(records[kept], rows[kept])

    def pairs_per_record(self, records: int) -> _Indices:
        """Related ordered pairs of each of N records, [N]; blocked ones do not count."""
        related = self.rows[:, 2] != BLOCKED
        first = _begins(self.records[related], self.rows[related, :2])
        return np.bincount(self.records[related][first], minlength=records)

    def of_records(self, kept: NDArray[np.bool_]) -> Relations:
        """The facts of records that are kept, which are numbered anew."""
        new = np.cumsum(kept) - 1
        chosen = np.flatnonzero(kept[self.records])
        return Relations(new[self.records[chosen]], self.rows[chosen])

    def block(self, pairs: IntArray) -> tuple[Relations, int]:
        """Block pairs; also returns how many facts they had.

        Args:
            pairs: rows (record, entity, entity), numbers of entities in the record, in both directions, [B, 3].
        """
        pairs = np.unique(pairs.reshape(-1, 3), axis=0)
        own = np.column_stack([self.records, self.rows[:, :2]])
        _, group = np.unique(np.concatenate([pairs, own]), axis=0, return_inverse=True)
        group = group.reshape(-1)
        blocked = np.isin(group[len(pairs) :], group[: len(pairs)])
        rows = np.column_stack([pairs[:, 1:], np.full(len(pairs), BLOCKED)])
        kept = ~blocked
        merged = Relations.unique(
            np.concatenate([self.records[kept], pairs[:, 0]]), np.concatenate([self.rows[kept], rows])
        )
        return merged, int(blocked.sum())


def _begins(records: IntArray, columns: IntArray) -> NDArray[np.bool_]:
    """Which sorted rows differ from the one before, [F]."""
    begins = np.ones(len(records), dtype=np.bool_)
    begins[1:] = (records[1:] != records[:-1]) | (columns[1:] != columns[:-1]).any(axis=1)
    return begins


def facts_of_records(entities: RecordEntities, facts: IntArray) -> Relations:
    """The facts whose two entities are both in a record, for every such record.

    Args:
        entities: entities of the records.
        facts: rows (key of the head, key of the tail, relation), [F, 3].
    """
    keys, records = entities.keys.values, entities.keys.row_index()
    by_key = np.argsort(keys, kind="stable")
    first, last = (np.searchsorted(keys[by_key], facts[:, 0], side=side) for side in ("left", "right"))
    fact = np.repeat(np.arange(len(facts)), last - first)
    head = by_key[concat_ranges(first, last - first)]
    # The tail is looked up among the entities of the head's record.
    by_record_and_key = np.lexsort((keys, records))
    span = 1 + max(keys.max(initial=0), facts[:, 1].max(initial=0))
    codes = (records * span + keys)[by_record_and_key]
    wanted = records[head] * span + facts[fact, 1]
    place = np.searchsorted(codes, wanted)
    found = np.flatnonzero(np.append(codes, -1)[place] == wanted)
    head, fact, tail = head[found], fact[found], by_record_and_key[place[found]]
    record = records[head]
    rows = [entities.numbers(head, record), entities.numbers(tail, record), facts[fact, 2]]
    return Relations.unique(record, np.stack(rows, axis=1))


def known_facts(entities: RecordEntities, numbers: IntArray, relations_of_pairs: RelationsOfPairs) -> Relations:
    """The facts that a knowledge base has of the entities of each record.

    Args:
        entities: entities of the records.
        numbers: in the knowledge base, of all entities, or UNLINKED, [K].
        relations_of_pairs: the knowledge base's.
    """
    parts, counts = [Relations.none()], entities.keys.lengths
    pairs_before = offsets_from_lengths(counts * (counts - 1))
    first = 0
    while first < len(counts):  # a part of the records at a time: their pairs are many
        last = int(np.searchsorted(pairs_before, pairs_before[first] + _PAIRS_AT_A_TIME, side="right")) - 1
        last = min(max(last, first + 1), len(counts))
        heads, tails = ordered_pairs(entities, first, last)
        known = np.flatnonzero((numbers[heads] != UNLINKED) & (numbers[tails] != UNLINKED))
        heads, tails = heads[known], tails[known]
        pair, relation = relations_of_pairs(numbers[heads], numbers[tails])
        record = np.searchsorted(entities.keys.offsets, heads[pair], side="right") - 1
        head, tail = (entities.numbers(side[pair], record) for side in (heads, tails))
        parts.append(Relations.unique(record, np.stack([head, tail, relation], axis=1)))
        first = last
    return Relations(np.concatenate([one.records for one in parts]), np.concatenate([one.rows for one in parts]))


def ordered_pairs(entities: RecordEntities, first: int, last: int) -> tuple[_Indices, _Indices]:
    """All ordered pairs of different entities of the records `first` up to, not including, `last`.

    Returns:
        Head and tail of each pair, counted over all entities.
    """
    offsets, counts = entities.keys.offsets, entities.keys.lengths[first:last]
    heads = np.repeat(np.arange(offsets[first], offsets[last]), np.repeat(counts, counts))
    tails = concat_ranges(np.repeat(offsets[first:last], counts), np.repeat(counts, counts))
    different = heads != tails
    return heads[different], tails[different]


@dataclass(frozen=True)
class DocumentRecords:
    """N records with what is found in them."""

    records: Records
    sentence_starts: Ragged
    """First word of each sentence, in its record, [N]."""
    mentions: Mentions
    relations: Relations

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def entities(self) -> RecordEntities:
        """Entities that the records mention."""
        return RecordEntities.of(self.mentions, len(self))

    @property
    def knowledge_ids(self) -> _Indices:
        """Number in the knowledge base of each entity, or UNLINKED, [K]."""
        return self.mentions.knowledge_ids[self.entities.first_mentions]

    @property
    def pairs(self) -> _Indices:
        """Related ordered pairs of each record, [N]; blocked ones do not count."""
        return self.relations.pairs_per_record(len(self))

    def keep(self, kept: NDArray[np.bool_]) -> DocumentRecords:
        """The records that are kept."""
        if kept.all():
            return self
        rows = np.flatnonzero(kept)
        return DocumentRecords(
            self.records.take(rows),
            self.sentence_starts.take(rows),
            self.mentions.of_records(kept),
            self.relations.of_records(kept),
        )

    def with_layers(self) -> Records:
        """The records with the layers of documents."""
        mentions, entities, relations, count = self.mentions, self.entities, self.relations, len(self)
        numbers = entities.numbers(entities.of_mentions, mentions.records)
        counts = np.bincount(mentions.records, minlength=count)
        layers = (
            Ragged.from_lengths(np.column_stack([mentions.words, mentions.types]), counts),
            self.sentence_starts,
            Ragged.from_lengths(numbers, counts),
            Ragged(self.knowledge_ids, entities.keys.offsets),
            Ragged.from_lengths(relations.rows, np.bincount(relations.records, minlength=count)),
        )
        named = dict(zip((ENTITIES, *DOCUMENT_LAYERS), layers, strict=True))
        return Records(self.records.pieces, self.records.word_starts, **named)
