"""The JSON dump of Wikidata → entities and facts, in one pass over a file of a hundred gigabytes, compressed or not.

Each line of the dump is an element of one list: an item (Q…) or a property (P…).
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_shards.errors import UserError
from data_shards.input.json_lines import reason_of
from data_shards.input.stream import open_input
from data_shards.knowledge.sources import Entity, Triple

_BEGINS_PROPERTY = re.compile(rb'.{0,80}"(type":\s*"property"|id":\s*"P)')


class WikidataDump:
    """Items with their names in a language, and claims between them; claims of rank deprecated are left out.

    Args:
        path: path of the dump, or of some lines of it.
        language: language of labels, aliases and articles.
        articles_only: only items with an article in that language's Wikipedia.
    """

    def __init__(self, path: Path, *, language: str = "en", articles_only: bool = True) -> None:
        self._path, self._language, self._articles_only = path, language, articles_only
        self._site = f"{language}wiki"
        self._facts = array("I")  # numbers in the ids of head, relation and tail of each claim
        self._items: set[int] = set()
        self._relation_names: dict[str, str] = {}

    def entities(self) -> Iterator[Entity]:
        article = f'"{self._site}":'.encode()
        with open_input(self._path) as stream:
            for number, raw in enumerate(stream.lines(), start=1):
                line = raw.strip().rstrip(b",")
                if line in (b"", b"[", b"]"):
                    continue
                # Nine of ten items have no article; parsing them would take most of the time.
                if self._articles_only and article not in line and not _BEGINS_PROPERTY.match(line):
                    continue
                entity = self._read(_parse(line, f"{self._path}:{number}"), f"{self._path}:{number}")
                if entity is not None:
                    yield entity

    def _read(self, value: dict[str, Any], where: str) -> Entity | None:
        try:
            id = value["id"]
            label = _text(value.get("labels"), self._language)
            if id.startswith("P"):
                self._relation_names[id] = label
                return None
            title = (value.get("sitelinks") or {}).get(self._site, {}).get("title", "")
            if not id.startswith("Q") or not (title if self._articles_only else title or label):
                return None
            aliases = [alias["value"] for alias in (value.get("aliases") or {}).get(self._language, ())]
            self._add_claims(int(id[1:]), value.get("claims") or {})
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(
                f"{where}: not an entity as Wikidata's dump has them ({error!r}): fetch it again"
            ) from error
        return Entity(id, label, tuple(aliases), title)

    def _add_claims(self, head: int, claims: dict[str, list[dict[str, Any]]]) -> None:
        self._items.add(head)
        for relation, statements in claims.items():
            for statement in statements:
                value = statement["mainsnak"].get("datavalue")  # "unknown" and "none" have none
                if statement.get("rank") == "deprecated" or not value or value["type"] != "wikibase-entityid":
                    continue
                tail = value["value"]
                if tail.get("entity-type") == "item":
                    number = int(tail["id"][1:]) if "id" in tail else tail["numeric-id"]
                    self._facts.extend((head, int(relation[1:]), number))

    def triples(self) -> Iterator[Triple]:
        for index in range(0, len(self._facts), 3):
            head, relation, tail = self._facts[index : index + 3]
            if tail in self._items:
                yield f"Q{head}", f"P{relation}", f"Q{tail}"

    def relation_names(self) -> Iterable[tuple[str, str]]:
        return ((id, name) for id, name in self._relation_names.items() if name)


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {reason_of(error)}: fetch the dump again") from error
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object, found {line[:40].decode(errors='replace')}: is this the dump?")
    return value


def _text(texts: Any, language: str) -> str:
    return ((texts or {}).get(language) or {}).get("value", "")  # without labels, `texts` is a list
