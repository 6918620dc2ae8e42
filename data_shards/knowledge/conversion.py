"""Sources → one knowledge base, a folder of tables (`knowledge_base`).

An entity of one source is that of another if both have the same id, or the same title of a Wikipedia article. Entities
without facts are left out: a mention of one says nothing about any other.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, remove_temporary_files, written_atomically
from data_shards.knowledge.knowledge_base import NAMES, RELATIONS, TITLES, TRIPLES
from data_shards.knowledge.sources import Entity, Source


@dataclass(frozen=True)
class ConversionCounts:
    """What a conversion wrote."""

    entities: int
    """Entities with facts."""
    unnamed: int
    """Entities with facts but without any name, which no text can mention."""
    titles: int
    """Entities with facts and a Wikipedia article."""
    merged: int
    """How often a source had an entity that was there already."""
    names: int
    """Names, titles and aliases of all entities; one that several have counts for each."""
    triples: int
    repeated: int
    """Facts left out because they were there already."""
    dropped: int
    """Facts of relations that were to be dropped."""
    relations: int
    """Relations that have facts."""
    unnamed_relations: int
    """Relations with facts that no source names; their ids stand for their names."""


def convert(sources: Iterable[Source], out: Path, *, drop_relations: str | None = None) -> ConversionCounts:
    """Write a knowledge base.

    Args:
        sources: in the order in which their entities, relations and names come.
        out: folder to write; whatever happens, it holds a whole knowledge base or none.
        drop_relations: regular expression; facts whose relation's id or name it matches anywhere are left out.

    Raises:
        UserError: a source cannot be read, nothing is left, or the folder cannot be written.
    """
    try:
        pattern = None if drop_relations is None else re.compile(drop_relations)
    except re.error as error:
        raise UserError(f"--drop-relations {drop_relations}: not a regular expression ({error})") from error
    with explain_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(out)
    merged = _Merged()
    for source in sources:
        merged.add(source)
    facts, counts = merged.facts(pattern)
    if not len(facts):
        raise UserError("no facts are left to write: check the sources and --drop-relations")
    with explain_write_errors(out):
        return merged.write(out, facts, counts)


class _Merged:
    """The entities, relations and facts of all sources."""

    def __init__(self) -> None:
        self._entities: dict[str, Entity] = {}  # by the id that it came with first
        self._of_title: dict[str, str] = {}
        self._other_ids: dict[str, str] = {}  # of entities that came with another id before
        self._numbers: dict[str, int] = {}
        self._relation_names: dict[str, str] = {}
        self._relations: dict[str, int] = {}
        self._facts = array("I")  # head, relation, tail of each
        self._known = 0

    def add(self, source: Source) -> None:
        for entity in source.entities():
            self._add_entity(entity)
        for head, relation, tail in source.triples():
            self._facts.extend((
                self._number(head), self._relations.setdefault(relation, len(self._relations)), self._number(tail)
            ))  # fmt: skip
        for id, name in source.relation_names():
            self._relation_names.setdefault(id, " ".join(name.split()))

    def _add_entity(self, entity: Entity) -> None:
        entity = Entity(
            entity.id, _plain(entity.label), tuple(filter(None, map(_plain, entity.aliases))), _plain(entity.title)
        )
        id = self._other_ids.get(entity.id, entity.id)
        if id not in self._entities and entity.title in self._of_title:
            id = self._other_ids[entity.id] = self._of_title[entity.title]
        if (known := self._entities.get(id)) is not None:
            self._known += 1
            entity = _both(known, entity)
        self._entities[id] = entity
        if entity.title:
            self._of_title.setdefault(entity.title, id)

    def _number(self, id: str) -> int:
        return self._numbers.setdefault(self._other_ids.get(id, id), len(self._numbers))

    def facts(self, drop: re.Pattern[str] | None) -> tuple[NDArray[np.int64], dict[str, int]]:
        """The distinct facts to keep in their order, [F, 3]; how many were dropped, and repeated others."""
        facts = np.frombuffer(self._facts, dtype=np.uint32).reshape(-1, 3).astype(np.int64)
        names = [(id, self._relation_names.get(id, "")) for id in self._relations]
        dropped = np.array([drop is not None and any(map(drop.search, both)) for both in names], dtype=bool)
        kept = facts[~dropped[facts[:, 1]]]
        order = np.lexsort(kept.T[::-1])  # stable: of equal facts, the first one comes first
        new = np.ones(len(kept), dtype=bool)
        new[1:] = (kept[order[1:]] != kept[order[:-1]]).any(axis=1)
        distinct = kept[np.sort(order[new])]
        return distinct, {"dropped": len(facts) - len(kept), "repeated": len(kept) - len(distinct)}

    def write(self, out: Path, facts: NDArray[np.int64], counts: dict[str, int]) -> ConversionCounts:
        """Write the tables; `names.tsv` is the last one, and without it there is no knowledge base."""
        (out / NAMES).unlink(missing_ok=True)
        ids, relation_ids = list(self._numbers), list(self._relations)
        with written_atomically(out / TRIPLES) as file:
            for start in range(0, len(facts), 1 << 16):  # as lists, a few at a time
                for head, relation, tail in facts[start : start + (1 << 16)].tolist():
                    file.write(f"{ids[head]}\t{relation_ids[relation]}\t{ids[tail]}\n".encode())
        with_facts = {ids[number] for number in np.unique(facts[:, [0, 2]]).tolist()}
        used = [relation_ids[number] for number in np.unique(facts[:, 1]).tolist()]
        relations = [(id, self._relation_names.get(id) or id) for id in used]
        entities = [entity._replace(id=id) for id, entity in self._entities.items() if id in with_facts]
        entities += [Entity(id) for id in ids if id in with_facts and id not in self._entities]
        names = [_names(entity) for entity in entities]
        titles = [(entity.id, entity.title) for entity in entities if entity.title]
        _write_table(out / RELATIONS, relations)
        _write_table(out / TITLES, titles)
        _write_table(out / NAMES, ((entity.id, *own) for entity, own in zip(entities, names, strict=True)))
        return ConversionCounts(
            entities=len(entities),
            unnamed=names.count(("",)),
            titles=len(titles),
            merged=self._known,
            names=sum(len({entity.title, *own} - {""}) for entity, own in zip(entities, names, strict=True)),
            triples=len(facts),
            relations=len(used),
            unnamed_relations=sum(not self._relation_names.get(id) for id in used),
            **counts,
        )


def _write_table(path: Path, rows: Iterable[Sequence[str]]) -> None:
    with written_atomically(path) as file:
        for row in rows:
            file.write(("\t".join(row) + "\n").encode())


def _plain(name: str) -> str:
    """A name without tabs and ends of lines, which tables use for themselves."""
    return " ".join(name.split())


def _both(first: Entity, second: Entity) -> Entity:
    """What an entity is called by both of two sources."""
    label = first.label or second.label
    aliases = dict.fromkeys((*first.aliases, second.label, *second.aliases))
    return Entity(
        first.id, label, tuple(name for name in aliases if name not in ("", label)), first.title or second.title
    )


def _names(entity: Entity) -> tuple[str, ...]:
    """Label, or the title where there is none, and the aliases."""
    name = entity.label or entity.title
    return (name, *dict.fromkeys(alias for alias in entity.aliases if alias != name))
