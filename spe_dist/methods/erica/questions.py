"""Questions of entity discrimination: relation and head of a fact stand in front of its document; which is the tail?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import Ragged, concat_ranges, offsets_from_lengths
from data_shards.shards.record import Records
from spe_dist.batches.random_draws import FloatArray
from spe_dist.documents.document_facts import DocumentFacts
from spe_dist.documents.mentions import entity_of_mention


@dataclass(frozen=True)
class Questions:
    """Q questions, by document. Entities are numbered over all documents."""

    records: NDArray[np.int64]  # [Q] ascending
    relations: NDArray[np.int64]  # [Q]
    heads: NDArray[np.int64]  # [Q]
    tails: NDArray[np.int64]  # [Q]
    candidates: Ragged  # entities, the tail first, [Q]
    nearest: NDArray[np.bool_]  # [Q] is the candidate that is mentioned nearest to the head the tail?


def ask(
    records: Records,
    facts: DocumentFacts,
    unknown: DocumentFacts,
    asked: NDArray[np.bool_],
    uniforms: FloatArray,
    *,
    mask_true_tails: bool,
) -> Questions:
    """Draw a fact of each document and list the entities that could be its tail.

    A document without a fact, or whose only other entities are tails of the same question, is not asked.

    Args:
        records: documents.
        facts: of them.
        unknown: pairs that may be related or not: those of evaluation data, and of relations that are left out.
        asked: which documents, [R].
        uniforms: random numbers in [0, 1), [R].
        mask_true_tails: whether other true tails of the same head and relation are left out.
    """
    usable = facts.take(asked[facts.records])
    counts = np.bincount(usable.records, minlength=len(records))
    chosen = offsets_from_lengths(counts)[:-1] + (uniforms * counts).astype(np.int64)
    fact = usable.take(chosen[counts > 0])
    candidates, others = _candidates(records, usable, unknown, fact, mask_true_tails=mask_true_tails)
    kept = np.flatnonzero(others > 0)
    fact, candidates = fact.take(kept), candidates.take(kept)
    return Questions(
        fact.records, fact.relations, fact.heads, fact.tails, candidates, _nearest_is_tail(records, fact, candidates)
    )


def _candidates(
    records: Records, facts: DocumentFacts, unknown: DocumentFacts, fact: DocumentFacts, *, mask_true_tails: bool
) -> tuple[Ragged, NDArray[np.int64]]:
    """Candidates of each question [Q], and how many there are beside the tail."""
    offsets = records.layers["knowledge_ids"].offsets
    lengths = np.diff(offsets)[fact.records]
    entities = concat_ranges(offsets[fact.records], lengths)
    question = np.repeat(np.arange(len(fact.records)), lengths)
    left_out = entities == fact.heads[question]
    question_of_record = np.full(len(records), -1)
    question_of_record[fact.records] = np.arange(len(fact.records))
    unknown = unknown.take(question_of_record[unknown.records] >= 0)
    of_head = unknown.heads == fact.heads[question_of_record[unknown.records]]
    left_out |= np.isin(entities, unknown.tails[of_head])
    if mask_true_tails:
        facts = facts.take(question_of_record[facts.records] >= 0)
        asked = question_of_record[facts.records]
        same = (facts.heads == fact.heads[asked]) & (facts.relations == fact.relations[asked])
        left_out |= np.isin(entities, facts.tails[same])  # entities of other documents have other numbers
    is_tail = entities == fact.tails[question]
    kept = is_tail | ~left_out
    entities, question, is_tail = entities[kept], question[kept], is_tail[kept]
    order = np.lexsort((~is_tail, question))
    counts = np.bincount(question, minlength=len(fact.records))
    return Ragged.from_lengths(entities[order], counts), counts - 1


def _nearest_is_tail(records: Records, fact: DocumentFacts, candidates: Ragged) -> NDArray[np.bool_]:
    """Whether the candidate with the mention that is the fewest words from one of the head's is the tail, [Q]."""
    mentions, offsets = records.entities, records.layers["knowledge_ids"].offsets
    entity = entity_of_mention(records)
    spans = mentions.values[:, :2].astype(np.int64)
    counts = mentions.lengths[fact.records]
    of_document = concat_ranges(mentions.offsets[fact.records], counts)
    question = np.repeat(np.arange(len(fact.records)), counts)
    is_head = entity[of_document] == fact.heads[question]
    heads, head_question = of_document[is_head], question[is_head]
    # Every mention of a head with every mention of its document.
    sizes = counts[head_question]
    other = concat_ranges(mentions.offsets[fact.records][head_question], sizes)
    head, asked = np.repeat(heads, sizes), np.repeat(head_question, sizes)
    possible = np.isin(asked * offsets[-1] + entity[other], candidates.row_index() * offsets[-1] + candidates.values)
    head, other, asked = head[possible], other[possible], asked[possible]
    distance = np.maximum(spans[other, 0] - spans[head, 1], spans[head, 0] - spans[other, 1])
    order = np.lexsort((other, distance, asked))
    questions, first = np.unique(asked[order], return_index=True)
    nearest = np.full(len(fact.records), -1)
    nearest[questions] = entity[other[order[first]]]
    return nearest == fact.tails
