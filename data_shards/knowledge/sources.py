"""Knowledge bases as others publish them → entities, names of relations, facts.

Ids are those of Wikidata (Q…, P…) where the source knows them, so that sources can be merged, and `dbr:`, `dbp:` for
DBpedia's resources and properties.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

from data_shards.errors import UserError
from data_shards.knowledge.knowledge_base import NAMES, RELATIONS, TITLES, TRIPLES
from data_shards.knowledge.rows import read_lines, read_rows

_OPENKE_FACTS = ("train2id.txt", "valid2id.txt", "test2id.txt")
_OPENKE_NAMES = "entity2wikidata.json"
_ARTICLE = "/wiki/"
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Triple = tuple[str, str, str]
"""Head, relation, tail."""


class Entity(NamedTuple):
    """What an entity is called.

    Args:
        id: id of the source.
        label: its main name; empty if the source has none.
        aliases: further names.
        title: title of its Wikipedia article.
    """

    id: str
    label: str = ""
    aliases: tuple[str, ...] = ()
    title: str = ""


class Source(Protocol):
    """A knowledge base to convert; its parts are read in the order of these methods, once each."""

    def entities(self) -> Iterator[Entity]:
        """Entities that facts may have as heads or tails."""

    def triples(self) -> Iterator[Triple]:
        """Facts; one may come several times."""

    def relation_names(self) -> Iterable[tuple[str, str]]:
        """Ids of relations and what they are called."""


class Tsv:
    """A folder of tables as `KnowledgeBase.load` reads it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entities(self) -> Iterator[Entity]:
        titles = {}
        if (self._folder / TITLES).is_file():
            titles = {id: title for _, (id, title) in read_rows(self._folder / TITLES, 2)}
        for _, (id, *names) in read_rows(self._folder / NAMES, 1, more=True):
            yield _entity(id, names, titles.pop(id, ""))
        yield from (Entity(id, title=title) for id, title in titles.items())

    def triples(self) -> Iterator[Triple]:
        return _triples(self._folder / TRIPLES)

    def relation_names(self) -> Iterable[tuple[str, str]]:
        return ((id, name) for _, (id, name) in read_rows(self._folder / RELATIONS, 2))


class Wikidata5m:
    """Files of Wikidata5m, or others of their form: aliases of entities and of relations, and facts.

    Args:
        entities: id, alias, alias, …
        relations: the same of relations.
        facts: files of head, relation, tail.
    """

    def __init__(self, entities: Path, relations: Path, facts: Iterable[Path]) -> None:
        self._entities, self._relations, self._facts = entities, relations, tuple(facts)

    def entities(self) -> Iterator[Entity]:
        for _, (id, *names) in read_rows(self._entities, 1, more=True):
            yield _entity(id, names)

    def triples(self) -> Iterator[Triple]:
        for path in self._facts:
            yield from _triples(path)

    def relation_names(self) -> Iterable[tuple[str, str]]:
        return ((id, name) for _, (id, name, *_) in read_rows(self._relations, 2, more=True))


class OpenKE:
    """A folder of OpenKE, with `entity2wikidata.json` beside it if entities are of Freebase."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids: dict[str, str] = {}

    def entities(self) -> Iterator[Entity]:
        described = _read_descriptions(self._folder / _OPENKE_NAMES)
        for code, number in self._numbered("entity2id.txt"):
            entity = _freebase_entity(code, described.get(code, {}))
            self._ids[number] = entity.id
            yield entity

    def triples(self) -> Iterator[Triple]:
        relations = {number: code for code, number in self._numbered("relation2id.txt")}
        for path in (self._folder / name for name in _OPENKE_FACTS):
            if not path.is_file() and path.name != _OPENKE_FACTS[0]:
                continue
            for where, (head, tail, relation) in self._after_count(path, 3):
                for number, known, kind in (
                    (head, self._ids, "entity"), (tail, self._ids, "entity"), (relation, relations, "relation")
                ):  # fmt: skip
                    if number not in known:
                        raise UserError(f"{where}: {kind} {number} is not in {kind}2id.txt: is the column order right?")
                yield self._ids[head], relations[relation], self._ids[tail]

    def relation_names(self) -> Iterable[tuple[str, str]]:
        return ((code, freebase_relation_name(code)) for code, _ in self._numbered("relation2id.txt"))

    def _numbered(self, name: str) -> Iterator[tuple[str, str]]:
        for _, (code, number) in self._after_count(self._folder / name, 2):
            yield code, number

    def _after_count(self, path: Path, columns: int) -> Iterator[tuple[str, list[str]]]:
        """The rows of a file whose first line is their number, each with where it stands."""
        lines = read_lines(path)
        _, first = next(lines, (1, ""))
        if not first.strip().isdecimal():
            raise UserError(f"{path}:1: expected the number of lines, found {first[:40]!r}: is this a file of OpenKE?")
        found = 0
        for line, text in lines:
            row = text.split()
            if len(row) != columns:
                raise UserError(f"{path}:{line}: expected {columns} columns, found {len(row)}: correct the line")
            found += 1
            yield f"{path}:{line}", row
        if found != int(first):
            raise UserError(
                f"{path}: its first line says {int(first):,} lines, but there are {found:,}: fetch it again"
            )


class Dbp15k:
    """A folder of DBP15K: the English side (`ent_ids_2`, `rel_ids_2`, `triples_2`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids: dict[str, str] = {}

    def entities(self) -> Iterator[Entity]:
        for number, name in self._named("ent_ids_2", "/resource/"):
            self._ids[number] = f"dbr:{name}"
            yield Entity(self._ids[number], title=title_of(name))

    def triples(self) -> Iterator[Triple]:
        relations = dict(self._named("rel_ids_2", "/property/"))
        for where, (head, relation, tail) in read_rows(self._folder / "triples_2", 3):
            for number, known, file in (
                (head, self._ids, "ent_ids_2"), (relation, relations, "rel_ids_2"), (tail, self._ids, "ent_ids_2")
            ):  # fmt: skip
                if number not in known:
                    raise UserError(f"{where}: number {number} is not in {file}: fetch both files again")
            yield self._ids[head], f"dbp:{relations[relation]}", self._ids[tail]

    def relation_names(self) -> Iterable[tuple[str, str]]:
        return ((f"dbp:{name}", dbpedia_relation_name(name)) for _, name in self._named("rel_ids_2", "/property/"))

    def _named(self, file: str, mark: str) -> Iterator[tuple[str, str]]:
        """Numbers, and what follows the mark in the addresses of DBpedia that they stand for."""
        for where, (number, address) in read_rows(self._folder / file, 2):
            name = address.partition(mark)[2]
            if not name:
                raise UserError(f"{where}: {address} is no address of DBpedia with {mark} in it: is this DBP15K?")
            yield number, name


def title_of(address: str) -> str:
    """The title of an article from the last part of its address."""
    return " ".join(unquote(address).replace("_", " ").split())


def freebase_relation_name(path: str) -> str:
    """`/people/person/place_of_birth` is "place of birth"."""
    return path.rstrip("/").rpartition("/")[2].replace("_", " ").strip() or path


def dbpedia_relation_name(name: str) -> str:
    """`birthPlace` is "birth place"."""
    return " ".join(_CAPITAL.sub(" ", unquote(name)).replace("_", " ").replace("/", " ").lower().split()) or name


def _entity(id: str, names: list[str], title: str = "") -> Entity:
    label, *aliases = names or [""]
    return Entity(id, label, tuple(filter(None, aliases)), title)


def _triples(path: Path) -> Iterator[Triple]:
    return ((head, relation, tail) for _, (head, relation, tail) in read_rows(path, 3))


def _read_descriptions(path: Path) -> dict[str, dict[str, Any]]:
    """Descriptions of Freebase ids (label, alternatives, wikidata_id, wikipedia); empty without the file."""
    if not path.is_file():
        return {}
    try:
        described = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}): fetch it again") from error
    if not isinstance(described, dict) or not all(isinstance(one, dict) for one in described.values()):
        raise UserError(f"{path}: expected an object of ids and descriptions: fetch it again")
    return described


def _freebase_entity(code: str, described: dict[str, Any]) -> Entity:
    text = {name: described.get(name) or "" for name in ("label", "wikidata_id", "wikipedia")}
    aliases = described.get("alternatives") or []
    if not all(isinstance(one, str) for one in (*text.values(), *aliases)):
        raise UserError(f"{_OPENKE_NAMES}: {code} is not described by texts: fetch the file again")
    title = title_of(text["wikipedia"].partition(_ARTICLE)[2])
    return Entity(text["wikidata_id"] or code, text["label"], tuple(aliases), title)
