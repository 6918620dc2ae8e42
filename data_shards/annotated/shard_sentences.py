"""Sentences of shards with distant labels → annotated sentences, to fine-tune on (SPE-DS)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from tokenizers import Tokenizer

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.errors import UserError
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import BLOCKED, RELATIONS, Records
from data_shards.shards.record_words import RecordWords


def annotated_sentences(reader: ShardReader) -> Iterator[AnnotatedSentence]:
    """The sentences of a dataset of sentences with entities and relations, in order.

    Every mention is an entity, and every two mentions of entities that have a fact are related. Words are what their
    pieces say (`RecordWords`), so lower-case if the tokenizer makes them so.

    Raises:
        UserError: the dataset has no entities and relations, or records of several sentences.
    """
    manifest = reader.manifest
    manifest.require_documents(reader.location)
    words = RecordWords(Tokenizer.from_file(str(reader.tokenizer_folder() / "tokenizer.json")))
    types = tuple(manifest.entity_types)
    relations = [relation.name for relation in manifest.relation_types.values()]
    numbers = count()
    for shard in range(len(manifest.shardlist)):
        records = reader.read_shard(shard)
        if (records.layers["sentence_starts"].lengths > 1).any():
            raise UserError(
                f"{reader.location} holds documents: cut them first with: spe shards sentences {reader.location} --out "
                "DIR"
            )
        for row, text in enumerate(words.words(records)):
            entities, related = _labels(records, row)
            yield AnnotatedSentence(
                tuple(text),
                tuple(Entity(start, end, types[type]) for start, end, type in entities),
                tuple(dict.fromkeys(Relation(head, tail, relations[kind]) for head, tail, kind in related)),
                number=next(numbers),
            )


def _labels(records: Records, row: int) -> tuple[list[list[int]], list[tuple[int, int, int]]]:
    """Mentions (first word, end word, type) of a record, and facts between them (head, tail, relation)."""
    entity_of_mention = records.layers["mention_entities"].row(row)
    related = [
        (int(head), int(tail), relation)
        for head_entity, tail_entity, relation in records.layers[RELATIONS].row(row).tolist()
        if relation != BLOCKED
        for head in np.flatnonzero(entity_of_mention == head_entity)
        for tail in np.flatnonzero(entity_of_mention == tail_entity)
    ]
    return records.entities.row(row).tolist(), related
