"""Rows of facts and of unrelated pairs of some documents, with entities numbered over all of them. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray, concat_ranges, offsets_from_lengths
from data_shards.shards.record import UNLINKED, Records
from spe_dist.batches.random_draws import FloatArray
from spe_dist.documents.document_facts import DocumentFacts
from spe_dist.documents.mentions import entity_of_mention
from spe_dist.methods.erica.fact_pairs import COLUMNS, HEAD, HEAD_ID, LANE, NA, RELATION, SINGLE, TAIL, TAIL_ID


def unrelated_pairs(
    records: Records, related: Sequence[DocumentFacts], wanted: NDArray[np.bool_], uniforms: FloatArray, *, most: int
) -> DocumentFacts:
    """Ordered pairs of entities that no row relates or blocks, drawn without replacement.

    Args:
        records: documents.
        related: facts, and pairs that may be related.
        wanted: which documents, [R].
        uniforms: random numbers in [0, 1) for each ordered pair of a document's entities, itself included, Σ entities².
        most: pairs of a document.
    """
    offsets = records.layers["knowledge_ids"].offsets
    counts = np.diff(offsets)
    record = np.repeat(np.arange(len(records)), counts * counts)
    place = concat_ranges(np.zeros_like(counts), counts * counts)
    head, tail = place // np.maximum(counts, 1)[record], place % np.maximum(counts, 1)[record]
    starts = offsets_from_lengths(counts * counts)[:-1]
    is_free = (head != tail) & wanted[record]
    for rows in related:
        first = offsets[rows.records]
        is_free[starts[rows.records] + (rows.heads - first) * counts[rows.records] + rows.tails - first] = False
    free = np.flatnonzero(is_free)
    order = free[np.lexsort((uniforms[free], record[free]))]
    of_document = np.bincount(record[order], minlength=len(records))
    rank = concat_ranges(np.zeros_like(of_document), of_document)
    chosen = np.sort(order[rank < most])
    of_chosen = record[chosen]
    return DocumentFacts(
        of_chosen, head[chosen] + offsets[of_chosen], tail[chosen] + offsets[of_chosen], np.full(len(chosen), NA)
    )


def pair_rows(
    records: Records, facts: DocumentFacts, unrelated: DocumentFacts, lane_of_record: IntArray
) -> NDArray[np.int64]:
    """Rows of `fact_pairs`: of each document its facts, then its unrelated pairs, [N, COLUMNS]."""
    record = np.concatenate([facts.records, unrelated.records])
    order = np.argsort(record, kind="stable")
    record = record[order]
    rows = np.empty((len(record), COLUMNS), dtype=np.int64)
    rows[:, HEAD] = np.concatenate([facts.heads, unrelated.heads])[order]
    rows[:, TAIL] = np.concatenate([facts.tails, unrelated.tails])[order]
    rows[:, RELATION] = np.concatenate([facts.relations, unrelated.relations])[order]
    in_sentence = _sentences_of_entities(records)
    rows[:, SINGLE] = (in_sentence[rows[:, HEAD]] & in_sentence[rows[:, TAIL]]).any(axis=1)
    identity = records.layers["knowledge_ids"].values.astype(np.int64)
    rows[:, HEAD_ID], rows[:, TAIL_ID] = identity[rows[:, HEAD]], identity[rows[:, TAIL]]
    rows[:, LANE] = lane_of_record[record]
    return rows


def share_identity(one: IntArray, other: IntArray) -> NDArray[np.bool_]:
    """Whether rows [n, COLUMNS] have the same head or the same tail in the knowledge base, [n]."""
    same = [(one[:, column] == other[:, column]) & (one[:, column] != UNLINKED) for column in (HEAD_ID, TAIL_ID)]
    return same[0] | same[1]


def _sentences_of_entities(records: Records) -> NDArray[np.bool_]:
    """Which sentences of its document mention each entity, [E, most sentences]."""
    sentences, mentions = records.layers["sentence_starts"], records.entities
    words = records.word_starts.offsets[:-1]
    starts = sentences.values + words[sentences.row_index()]
    first_word = mentions.values[:, 0] + words[mentions.row_index()]
    sentence = np.searchsorted(starts, first_word, side="right") - 1
    found = np.zeros((len(records.layers["knowledge_ids"].values), sentences.lengths.max(initial=1)), dtype=np.bool_)
    found[entity_of_mention(records), sentence - sentences.offsets[mentions.row_index()]] = True
    return found
