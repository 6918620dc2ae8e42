"""A knowledge base: entities with their names, and facts between them, as a folder of tables (TSV).

    names.tsv      id, name, alias, …        entities; the name may be empty if nobody knows one
    triples.tsv    head, relation, tail      facts
    relations.tsv  id, name                  what a relation is called in words: "place of birth"
    titles.tsv     id, title                 optional: titles of the entities' Wikipedia articles

An entity or relation that only `triples.tsv` has is one without names; the name of such a relation is its id.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_shards.errors import UserError
from data_shards.files import sha256_of, sha256_of_file
from data_shards.knowledge.rows import read_rows
from data_shards.ragged import IntArray, concat_ranges
from data_shards.shards.record import BLOCKED

NAMES, TRIPLES, RELATIONS, TITLES = "names.tsv", "triples.tsv", "relations.tsv", "titles.tsv"
_REQUIRED = (NAMES, TRIPLES, RELATIONS)
_TAIL_BITS = 32


@dataclass(frozen=True)
class KnowledgeBase:
    """E entities, R relations, and the distinct ones of its facts, F.

    Entities are numbered in the order of `names.tsv`, relations in that of `relations.tsv`.
    """

    fingerprint: str
    """SHA-256 over its files."""
    entity_ids: list[str]
    names: Sequence[tuple[str, ...]]
    """Name and aliases of each entity; the name is empty if only aliases are known."""
    titles: Mapping[int, str]
    """Titles of the Wikipedia articles of entities."""
    relation_ids: list[str]
    relation_names: list[str]
    pairs: NDArray[np.int64]
    """Head and tail of each fact as one number, ascending, [F]."""
    relations: NDArray[np.uint16]
    """Relation of each fact, ascending in those of a pair, [F]."""

    @classmethod
    def load(cls, folder: str | Path) -> KnowledgeBase:
        """Read a folder.

        Raises:
            UserError: a file is missing or cannot be read, or a line is wrong; names file and line.
        """
        folder = Path(folder)
        if missing := [name for name in _REQUIRED if not (folder / name).is_file()]:
            raise UserError(
                f"{folder} is not a knowledge base, it lacks {', '.join(missing)}: make one with: "
                f"spe kb convert SOURCE --out {folder}"
            )
        entities, relations = _Numbers(), _Numbers()
        names = [entities.add(*row) for row in read_rows(folder / NAMES, 1, more=True)]
        relation_names = [relations.add(*row)[0] for row in read_rows(folder / RELATIONS, 2)]
        titles = {}
        if (folder / TITLES).is_file():
            titles = {entities.number(id): title for _, (id, title) in read_rows(folder / TITLES, 2)}
        heads, codes, tails = array("I"), array("I"), array("I")
        for _, (head, relation, tail) in read_rows(folder / TRIPLES, 3):
            heads.append(entities.number(head))
            codes.append(relations.number(relation))
            tails.append(entities.number(tail))
        if len(relations.ids) >= BLOCKED:
            raise UserError(
                f"{folder} has {len(relations.ids):,} relations, and at most {BLOCKED - 1:,} can be stored: "
                "leave some out (spe kb convert --drop-relations)"
            )
        names += [("",)] * (len(entities.ids) - len(names))
        relation_names += list(relations.ids)[len(relation_names) :]
        pairs = pair_keys(np.array(heads, dtype=np.int64), np.array(tails, dtype=np.int64))
        return cls(
            fingerprint_of_folder(folder), list(entities.ids), names, titles, list(relations.ids), relation_names,
            *_distinct(pairs, np.array(codes, dtype=np.uint16)),
        )  # fmt: skip

    @cached_property
    def heads(self) -> NDArray[np.int64]:
        """Head of each fact, [F]."""
        return self.pairs >> _TAIL_BITS

    @cached_property
    def tails(self) -> NDArray[np.int64]:
        """Tail of each fact, [F]."""
        return self.pairs & ((1 << _TAIL_BITS) - 1)

    def facts_of_entities(self) -> NDArray[np.int64]:
        """Number of facts that each entity is head or tail of, [E]."""
        ends = np.concatenate([self.heads, self.tails])
        return np.bincount(ends, minlength=len(self.entity_ids))

    def relations_of_pairs(self, heads: IntArray, tails: IntArray) -> tuple[IntArray, IntArray]:
        """The facts between entities.

        Args:
            heads: numbers of entities, [P]; a number that no entity has (UNLINKED) has no facts.
            tails: their tails, [P].

        Returns:
            Index of the pair, and relation, of every fact of a pair, sorted, [F] each.
        """
        keys = pair_keys(heads, tails)
        first = np.searchsorted(self.pairs, keys, side="left")
        counts = np.searchsorted(self.pairs, keys, side="right") - first
        facts = concat_ranges(first, counts)
        return np.repeat(np.arange(len(keys), dtype=np.int64), counts), self.relations[facts].astype(np.int64)


def fingerprint_of_folder(folder: Path) -> str:
    """SHA-256 over the files of a knowledge base."""
    paths = [folder / name for name in (*_REQUIRED, TITLES)]
    return sha256_of("\n".join(f"{path.name} {sha256_of_file(path)}" for path in paths if path.is_file()).encode())


class _Numbers:
    """Numbers ids in the order in which they come, from 0."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def number(self, id: str) -> int:
        return self.ids.setdefault(id, len(self.ids))

    def add(self, where: str, row: Sequence[str]) -> tuple[str, ...]:
        """The further columns of a row, whose first one is a new id."""
        if row[0] in self.ids:
            raise UserError(f"{where}: id {row[0]!r} was on a line before: merge the two or remove one")
        self.ids[row[0]] = len(self.ids)
        return (row[1] if len(row) > 1 else "", *filter(None, row[2:]))


def pair_keys(heads: IntArray, tails: IntArray) -> NDArray[np.int64]:
    """Heads and tails as one number each; those of entities are not negative."""
    return (heads.astype(np.int64) << _TAIL_BITS) | tails.astype(np.int64)


def _distinct(pairs: NDArray[np.int64], codes: NDArray[np.uint16]) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    order = np.lexsort((codes, pairs))
    pairs, codes = pairs[order], codes[order]
    new = np.ones(len(pairs), dtype=bool)
    new[1:] = (pairs[1:] != pairs[:-1]) | (codes[1:] != codes[:-1])
    return pairs[new], codes[new]
