"""The documents of a work unit → records of whole consecutive sentences, with mentions, entities and facts.

    sentences ──pack──▶ records ──words──▶ mentions ──entities──▶ facts ──blocking──▶ kept

Every arrow drops records that a filter refuses, so that what costs most sees the fewest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.document import Document, DocumentSentences
from data_shards.pipeline.document_plan import (
    DocumentPlan,
    ExcludedPlan,
    KnowledgePlan,
    excluded_of_worker,
    linker_of_worker,
)
from data_shards.pipeline.document_records import (
    DocumentRecords,
    Mentions,
    Relations,
    facts_of_records,
    known_facts,
    pack_sentences,
)
from data_shards.pipeline.ner_pipeline import EntityPlan, NerInfo, pipeline_of_worker
from data_shards.ragged import Ragged, concat_ranges, offsets_from_lengths
from data_shards.shards.entity_words import words_of_entities
from data_shards.shards.record import BLOCKED, UNLINKED, Records
from data_shards.text.word_pieces import LocatedWords, records_of_words

LINKED_TYPE = "entity"
"""Type of entities that a knowledge base knows, if no pipeline says another."""
UNIT_DOCUMENTS = 5_000
"""Documents of a unit, in every format."""

_Mask = NDArray[np.bool_]
_Indices = NDArray[np.int64]


@dataclass(frozen=True)
class _Cut:
    """Records, and the sentences they are made of."""

    records: Records
    sentences: _Indices
    """Numbers of the sentences, among all of the unit, [S]."""
    of_sentences: _Indices
    """Record of each, [S]."""
    first_words: _Indices
    """First word of each, in its record, [S]."""

    @property
    def sentence_starts(self) -> Ragged:
        return Ragged.from_lengths(self.first_words, np.bincount(self.of_sentences, minlength=len(self.records)))


class DocumentUnit:
    """Makes the records of a unit.

    Args:
        plan: plan of the build.
        sentences: sentences of the unit's documents.
        located: their words.
        max_pieces: maximum number of pieces of a record, without special pieces.
    """

    def __init__(
        self, plan: DocumentPlan, sentences: DocumentSentences, located: LocatedWords, max_pieces: int
    ) -> None:
        self._plan, self._sentences, self._located, self._max_pieces = plan, sentences, located, max_pieces
        self.dropped: dict[str, int] = {}
        self.found: Counter[str] = Counter()

    def records(self, headings: _Mask | None, entities: EntityPlan) -> tuple[Records, Mapping[str, int]]:
        """The records that pass all filters, and what became of listed entities (`entity_words`).

        Args:
            headings: which sentences are none, [S].
            entities: their types and, if it is a pipeline that must find them, that.
        """
        cut = self._cut(headings)
        if self._plan.knowledge is None:
            mentions, changes = self._gold_mentions(cut, entities.types)
        else:
            mentions, changes = self._linked_mentions(cut, self._plan.knowledge, entities.ner), {}
        documents = DocumentRecords(cut.records, cut.sentence_starts, mentions, Relations.none())
        documents = self._with_enough_entities(documents)
        return self._with_enough_facts(documents).with_layers(), changes

    def _cut(self, headings: _Mask | None) -> _Cut:
        """Pack sentences, and keep the records that have words enough."""
        located, count = self._located, len(self._sentences.texts)
        words = np.diff(located.word_offsets)
        pieces = np.diff(located.pieces.offsets[located.word_offsets])
        documents = np.searchsorted(self._sentences.document_starts, self._sentences.starts, side="right") - 1
        headings = np.zeros(count, dtype=np.bool_) if headings is None else headings
        used = np.flatnonzero(~headings & (words > 0))
        record = pack_sentences(pieces[used], documents[used], self._max_pieces)
        packed = record >= 0
        sentences, record = used[packed], record[packed]
        records = int(record[-1]) + 1 if len(record) else 0
        enough = np.bincount(record, weights=words[sentences], minlength=records) >= self._plan.filter.min_words
        self.dropped |= {
            "headings": int(headings.sum()),
            "without_words": int((~headings & (words == 0)).sum()),
            "too_many_pieces": int((~packed).sum()),
            "too_few_words": int((~enough).sum()),
        }
        self.found.update(words=int(words.sum()), records=records)
        kept = enough[record]
        sentences, record = sentences[kept], (np.cumsum(enough) - 1)[record[kept]]
        return self._of_sentences(sentences, record, int(enough.sum()))

    def _of_sentences(self, sentences: _Indices, record: _Indices, count: int) -> _Cut:
        located = self._located
        lengths = np.diff(located.word_offsets)[sentences]
        words = concat_ranges(located.word_offsets[sentences], lengths)
        records = records_of_words(located.pieces.take(words), np.repeat(record, lengths), count)
        first_words = offsets_from_lengths(lengths)[:-1] - records.word_starts.offsets[record]
        return _Cut(records, sentences, record, first_words)

    def _gold_mentions(self, cut: _Cut, types: Sequence[str]) -> tuple[Mentions, Mapping[str, int]]:
        """The mentions that the documents list."""
        located, sentences = self._located, self._sentences
        listed = sentences.entities(types)
        characters = located.characters + np.repeat(sentences.starts, np.diff(located.word_offsets))[:, None]
        numbered = np.column_stack([listed[:, :2], np.arange(len(listed))])
        found = words_of_entities(characters, located.word_offsets, numbered)
        rows = found.entities.take(cut.sentences)
        keys, knowledge_ids = _entities_of_mentions(sentences.documents)
        number = rows.values[:, 2]
        columns = {"types": listed[number, 2], "keys": keys[number], "knowledge_ids": knowledge_ids[number]}
        self.found.update(listed_mentions=len(listed))
        return self._mentions(cut, rows.row_index(), rows.values[:, :2], **columns), found.changes

    def _linked_mentions(self, cut: _Cut, knowledge: KnowledgePlan, ner: NerInfo | None) -> Mentions:
        """The names of the knowledge base in the text."""
        base, linker = linker_of_worker(knowledge)
        words = self._located.words(self._sentences.texts, cut.sentences)
        linked = linker.link(words)
        self.found.update({name: count for name, count in linked.counts.items() if name != "mentions"})
        found = _Spans(linked.sentences, linked.words, np.zeros_like(linked.entities), linked.entities)
        if ner is not None:
            found = self._found_by_pipeline(found, words, ner, knowledge, len(base.entity_ids))
        is_linked = found.keys < len(base.entity_ids)
        self.found.update(linked_mentions=int(is_linked.sum()))
        knowledge_ids = np.where(is_linked, found.keys, UNLINKED)
        return self._mentions(
            cut, found.sentences, found.words, types=found.types, keys=found.keys, knowledge_ids=knowledge_ids
        )

    def _found_by_pipeline(
        self, linked: _Spans, words: Sequence[Sequence[str]], ner: NerInfo, knowledge: KnowledgePlan, first_key: int
    ) -> _Spans:
        """Linked mentions that share a word with what a pipeline finds; what it finds beside them, if that is kept.

        Mentions without a number in the knowledge base are the same entity where they have the same words.
        """
        named = pipeline_of_worker(ner).find(words)
        begins = offsets_from_lengths(np.fromiter(map(len, words), dtype=np.int64, count=len(words)))
        sentences = named.row_index()
        own, other = linked.words + begins[linked.sentences, None], named.values[:, :2] + begins[sentences, None]
        touched = _first_shared(own, other)
        kept = np.flatnonzero(touched >= 0)
        self.found.update(linked_mentions_not_named=len(own) - len(kept))
        linked = _Spans(linked.sentences[kept], linked.words[kept], named.values[touched[kept], 2], linked.keys[kept])
        if not knowledge.keep_unlinked:
            return linked
        alone = np.flatnonzero(_first_shared(other, own) < 0)
        spans, keys = named.values[alone], dict[tuple[str, ...], int]()
        key = [
            keys.setdefault(tuple(words[sentence][start:end]), first_key + len(keys))
            for sentence, (start, end, _) in zip(sentences[alone].tolist(), spans.tolist(), strict=True)
        ]
        unlinked = _Spans(sentences[alone], spans[:, :2], spans[:, 2], np.array(key, dtype=np.int64))
        return linked.merge(unlinked)

    def _mentions(self, cut: _Cut, sentence: _Indices, words: _Indices, **columns: _Indices) -> Mentions:
        """Mentions from the numbers of their sentences in the cut, and their words in these."""
        located = self._located
        self.found.update(mentions=len(words))
        unit_words = words + located.word_offsets[cut.sentences[sentence], None]
        places = [
            cut.sentences[sentence],
            located.characters[unit_words[:, 0], 0],
            located.characters[unit_words[:, 1] - 1, 1],
        ]
        return Mentions(
            records=cut.of_sentences[sentence],
            words=words + cut.first_words[sentence, None],
            places=np.stack(places, axis=1),
            **columns,
        )

    def _with_enough_entities(self, documents: DocumentRecords) -> DocumentRecords:
        limits, entities = self._plan.filter, documents.entities.keys.lengths
        return self._keep(
            documents,
            too_few_entities=entities < limits.min_entities,
            too_many_entities=entities > limits.max_entities,
        )

    def _with_enough_facts(self, documents: DocumentRecords) -> DocumentRecords:
        limits = self._plan.filter
        documents = replace(documents, relations=self._relations(documents))
        self.found.update(facts=len(documents.relations.rows))
        if self._plan.excluded:
            documents = self._block(documents, self._plan.excluded)
        pairs = documents.pairs
        return self._keep(documents, too_few_facts=pairs < limits.min_facts, too_many_facts=pairs > limits.max_facts)

    def _relations(self, documents: DocumentRecords) -> Relations:
        """The facts that documents list, or those of the knowledge base."""
        if self._plan.knowledge:
            base, _ = linker_of_worker(self._plan.knowledge)
            return known_facts(documents.entities, documents.knowledge_ids, base.relations_of_pairs)
        numbers = {code: number for number, code in enumerate(self._plan.relations)}
        facts = _facts_of_documents(self._sentences.documents, numbers)
        self.found.update(listed_facts=len(facts))
        return facts_of_records(documents.entities, facts)

    def _block(self, documents: DocumentRecords, excluded: ExcludedPlan) -> DocumentRecords:
        """Block pairs of records that have facts enough before."""
        limits, pairs = self._plan.filter, documents.pairs
        self.found.update(
            records_without_blocking=int(((pairs >= limits.min_facts) & (pairs <= limits.max_facts)).sum()),
            pairs_without_blocking=int(pairs.sum()),
        )
        documents = self._keep(documents, too_few_facts=pairs < limits.min_facts)
        mentions, entities = documents.mentions, documents.entities
        names = [self._sentences.texts[sentence][start:end] for sentence, start, end in mentions.places.tolist()]
        numbers = entities.numbers(entities.of_mentions, mentions.records)
        blocked = excluded_of_worker(excluded).blocked_pairs(names, numbers, mentions.records)
        relations, facts = documents.relations.block(blocked)
        self.found.update(blocked_facts=facts, blocked_pairs=int((relations.rows[:, 2] == BLOCKED).sum()))
        return replace(documents, relations=relations)

    def _keep(self, documents: DocumentRecords, **reasons: _Mask) -> DocumentRecords:
        """The records for which no reason holds; the others are counted under the first one that does."""
        kept = np.ones(len(documents), dtype=np.bool_)
        for reason, mask in reasons.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + int((kept & mask).sum())
            kept &= ~mask
        return documents.keep(kept)


@dataclass(frozen=True)
class _Spans:
    """Mentions in sentences, in their order."""

    sentences: _Indices
    words: _Indices
    types: _Indices
    keys: _Indices

    def merge(self, other: _Spans) -> _Spans:
        """These and others, which share no words with them."""
        columns = [np.concatenate([getattr(self, one.name), getattr(other, one.name)]) for one in fields(self)]
        order = np.lexsort((columns[1][:, 0], columns[0]))
        return _Spans(*(column[order] for column in columns))


def _first_shared(ranges: _Indices, others: _Indices) -> _Indices:
    """The first of other ranges that shares words with each, or -1; both are sorted and do not overlap, [R, 2]."""
    place = np.searchsorted(others[:, 1], ranges[:, 0], side="right")
    begins = np.append(others[:, 0], np.iinfo(np.int64).max)
    return np.where(begins[place] < ranges[:, 1], place, -1)


def _entities_of_mentions(documents: Sequence[Document]) -> tuple[_Indices, _Indices]:
    """Key and number in the knowledge base of the entity of every mention, in their order."""
    offsets = _entity_offsets(documents).tolist()
    keys = [begin + mention.entity for d, begin in zip(documents, offsets, strict=False) for mention in d.mentions]
    numbers = [
        wikidata_number(d.identities[mention.entity]) if d.identities else UNLINKED
        for d in documents
        for mention in d.mentions
    ]
    return np.array(keys, dtype=np.int64), np.array(numbers, dtype=np.int64)


def _facts_of_documents(documents: Sequence[Document], numbers: Mapping[str, int]) -> _Indices:
    """Rows (key of the head, key of the tail, number of the relation) of every fact, [F, 3]."""
    offsets = _entity_offsets(documents).tolist()
    rows = [
        (begin + fact.head, begin + fact.tail, numbers[fact.type])
        for document, begin in zip(documents, offsets, strict=False)
        for fact in document.facts
        if fact.head != fact.tail
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _entity_offsets(documents: Sequence[Document]) -> _Indices:
    """The first key of each document: an entity's key is its number in the document behind that."""
    counts = [
        1 + max([m.entity for m in d.mentions] + [one for f in d.facts for one in (f.head, f.tail)], default=-1)
        for d in documents
    ]
    return offsets_from_lengths(np.array(counts, dtype=np.int64))


def wikidata_number(code: str) -> int:
    """Number of a Wikidata entity (42 for Q42); UNLINKED for anything else."""
    if code[:1] == "Q" and code[1:].isdecimal() and code.isascii():
        return min(int(code[1:]), UNLINKED)
    return UNLINKED
