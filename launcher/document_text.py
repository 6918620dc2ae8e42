"""Datasets of documents as text: what one holds, and what a record has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data_shards.counted import counted
from data_shards.shards.manifest import Manifest
from data_shards.shards.record import BLOCKED, DOCUMENT_LAYERS, RELATIONS, UNLINKED, Records

_SHOWN_RELATIONS = 5


def has_documents(manifest: Manifest) -> bool:
    """Whether the records of a dataset have all layers of documents."""
    return {*DOCUMENT_LAYERS} <= {*manifest.layers}


def document_counts(manifest: Manifest) -> Iterator[str]:
    """What the records of a dataset hold, and what was found before records were dropped."""
    counts, found = manifest.statistics, manifest.statistics.found
    entities, rows = counts.further["knowledge_ids"], counts.further[RELATIONS]
    facts = sum(relation.facts for relation in manifest.relation_types.values())
    sentences = counts.further["sentence_starts"]
    yield f"  sentences {sentences:,}, {_share(sentences, counts.records)}"
    types = ", ".join(f"{count:,} {name}" for name, count in sorted(manifest.entity_types.items(), key=lambda t: -t[1]))
    yield (f"  entities  {entities:,}, {_share(entities, counts.records)}, with {counts.entities:,} mentions: {types}")
    frequent = sorted(manifest.relation_types.values(), key=lambda relation: -relation.facts)
    used = sum(relation.facts > 0 for relation in frequent)
    shown = ", ".join(f"{relation.facts:,} {relation.name}" for relation in frequent[:_SHOWN_RELATIONS])
    yield f"  facts     {facts:,}, {_share(facts, counts.records)}, of {used:,} relations: {shown}"
    yield f"  blocked   {rows - facts:,} pairs, {_share(rows - facts, counts.records)}"
    if found:
        told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.items())
        yield f"  found     before records were dropped: {told}"


def _share(count: int, records: int) -> str:
    return f"{count / records:.2f} a record"


def document_lines(records: Records, text: Sequence[str], manifest: Manifest) -> Iterator[str]:
    """The entities of the first record, each with its mentions, and the facts between them.

    Args:
        records: with the layers of documents.
        text: words of the first record.
        manifest: manifest of their dataset.
    """
    rows, entities = records.entities.row(0).tolist(), records.layers["mention_entities"].row(0).tolist()
    types = tuple(manifest.entity_types)
    names: dict[int, list[str]] = {}
    of_types: dict[int, str] = {}
    sentence_starts = records.layers["sentence_starts"].row(0)
    for (start, end, type), entity in zip(rows, entities, strict=True):
        sentence = int(np.searchsorted(sentence_starts, start, side="right")) - 1
        names.setdefault(entity, []).append(f"{' '.join(text[start:end])} (sentence {sentence}, word {start})")
        of_types.setdefault(entity, types[type])
    yield (
        f"  {counted(len(sentence_starts), 'sentence')}, {counted(len(names), 'entity')}, "
        f"{counted(len(rows), 'mention')}"
    )
    for entity, known in enumerate(records.layers["knowledge_ids"].row(0).tolist()):
        number = "" if known == UNLINKED else f", {known} in the knowledge base"
        yield f"  entity {entity} ({of_types[entity]}{number}): {', '.join(names[entity])}"
    relations = [(code, relation.name) for code, relation in manifest.relation_types.items()]
    first = {entity: mentions[0].rsplit(" (", 1)[0] for entity, mentions in names.items()}
    for head, tail, relation in records.layers[RELATIONS].row(0).tolist():
        pair = f"{head} {first[head]} → {tail} {first[tail]}"
        if relation == BLOCKED:
            yield f"  blocked  {pair}"
        else:
            code, name = relations[relation]
            yield f"  fact     {pair}: {name}" + ("" if name == code else f" ({code})")
