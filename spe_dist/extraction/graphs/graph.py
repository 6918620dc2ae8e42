"""Entities and relations of many texts → one graph, or one for each text.

A node is a type and a name: mentions of one type whose names are equal, letter case, spaces and forms of characters
(NFKC) aside. An edge is two nodes and a relation type. Both keep all their places in the texts. Nothing else tells two
people of one name apart, nor one person of two names.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import quote

from spe_dist.extraction.predict.extracted_text import ExtractedText

Scope = Literal["corpus", "text"]
"""What a node is one of: all mentions in the corpus, or in a text."""
_NUMBERS = 3  # of a place: text, first character, one past the last


class Found(NamedTuple):
    """What is known of a text.

    Args:
        name: name of the text.
        entities: type, mentions as (first character, one past the last, their text), and score, None for none.
        relations: numbers of head and tail among these, type and score.
    """

    name: str
    entities: list[tuple[str, list[tuple[int, int, str]], float | None]]
    relations: list[tuple[int, int, str, float]]

    @classmethod
    def of(cls, name: str, extracted: ExtractedText) -> Found:
        """What a model has found in a text."""
        entities: list[tuple[str, list[tuple[int, int, str]], float | None]] = [
            (one.type, [(one.start, one.end, one.text)], one.score) for one in extracted.entities
        ]
        return cls(name, entities, [(one.head, one.tail, one.type, one.score) for one in extracted.relations])


@dataclass(slots=True, kw_only=True)
class _Seen:
    """Where something is in the texts, and its best score."""

    places: array[int] = field(default_factory=lambda: array("Q"))
    score: float | None = None

    def add(self, text: int, start: int, end: int, score: float | None) -> None:
        self.places.extend((text, start, end))
        if score is not None:
            self.score = max(score, self.score or 0.0)

    @property
    def count(self) -> int:
        return len(self.places) // _NUMBERS


@dataclass(slots=True, kw_only=True)
class Node(_Seen):
    """An entity.

    Args:
        number: unique in the output.
        key: type and name (and text, if nodes are of one), percent-encoded, separated by `/`; unique in the output.
        type: type of the entity.
        names: as the texts have it, with their numbers, white space aside.
    """

    number: int
    key: str
    type: str
    names: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """The most frequent name, the first of several."""
        return self.names.most_common(1)[0][0] if self.names else ""


@dataclass(slots=True, kw_only=True)
class Edge(_Seen):
    """A relation: nodes `head` and `tail`, and its type; a place is from the first argument to the last."""

    head: Node
    tail: Node
    type: str


class Graph:
    """A graph that grows.

    Memory: a few hundred bytes for each node and edge, and 24 for each place (docs/predicting.md has figures).

    Args:
        scope: what a node is one of.
        first: number of its first node.
        first_text: number of its first text.
    """

    def __init__(self, scope: Scope, *, first: int = 0, first_text: int = 0) -> None:
        self._scope, self._first, self._first_text = scope, first, first_text
        self._texts: list[str] = []
        self._nodes: dict[tuple[str, str], Node] = {}
        self._edges: dict[tuple[int, int, str], Edge] = {}

    def add(self, found: Found) -> None:
        """Add a text."""
        text = len(self._texts)
        self._texts.append(encoded(found.name or str(self._first_text + text + 1)))
        nodes = []
        for type, mentions, score in found.entities:
            node = self._node(type, mentions[0][2] if mentions else "")
            nodes.append(node)
            for start, end, name in mentions:
                node.names[" ".join(name.split())] += 1
                node.add(text, start, end, score)
        for head, tail, type, score in found.relations:  # between entities that are mentioned
            key = (nodes[head].number, nodes[tail].number, type)
            if key not in self._edges:
                self._edges[key] = Edge(head=nodes[head], tail=nodes[tail], type=type)
            spans = [found.entities[one][1][0] for one in (head, tail)]
            start, end = min(span[0] for span in spans), max(span[1] for span in spans)
            self._edges[key].add(text, start, end, score)

    def _node(self, type: str, name: str) -> Node:
        known = type, normalised(name)
        if known not in self._nodes:
            number = self._first + len(self._nodes)
            parts = known if self._scope == "corpus" else (str(self._first_text + 1), *known)
            self._nodes[known] = Node(number=number, key="/".join(map(encoded, parts)), type=type)
        return self._nodes[known]

    @property
    def nodes(self) -> Collection[Node]:
        """Nodes in the order in which the texts first mention them."""
        return self._nodes.values()

    @property
    def edges(self) -> Collection[Edge]:
        """Edges in the order in which the texts first state them."""
        return self._edges.values()

    def places(self, seen: Node | Edge) -> Iterator[str]:
        """Each place as the text's name and a fragment that names characters, as RFC 5147 has it: `notes#char=0,11`."""
        numbers = iter(seen.places)
        for text, start, end in zip(numbers, numbers, numbers, strict=True):
            yield f"{self._texts[text]}#char={start},{end}"


def graphs_of(texts: Iterable[Found], scope: Scope) -> Iterator[Graph]:
    """One graph of all texts when they are read, or one for each text as it comes."""
    graph = Graph(scope)
    first = 0
    for number, found in enumerate(texts):
        if scope == "text":
            graph = Graph(scope, first=first, first_text=number)
            graph.add(found)
            first += len(graph.nodes)
            yield graph
        else:
            graph.add(found)
    if scope == "corpus":
        yield graph


def normalised(name: str) -> str:
    """What two names of one node have in common."""
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


def encoded(part: str) -> str:
    """Percent-encoded, as a part of a key or IRI."""
    return quote(part, safe="", errors="replace")
