"""A document as a graph: entities with their mentions are the nodes, relations between them the edges.

Gold and predicted items of the task, lines of its prediction files and what `spe predict` writes are such graphs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.document import Document


class NamedPlace(NamedTuple):
    """A mention.

    Args:
        name: as the file has it, or its words.
        sentence: number of the sentence.
        start: first word, counted in the sentence; of a document that is a text, its first character.
        end: one past the last.
    """

    name: str
    sentence: int
    start: int
    end: int


class Node(NamedTuple):
    """An entity; `mentions` are in the order of the file, and the first one gives its type."""

    type: str
    mentions: tuple[NamedPlace, ...]

    @property
    def name(self) -> str:
        """That of its first mention."""
        return self.mentions[0].name if self.mentions else ""

    @property
    def sentences(self) -> set[int]:
        """The sentences that mention it."""
        return {mention.sentence for mention in self.mentions}


class Edge(NamedTuple):
    """A relation between two nodes, by their numbers.

    Args:
        head: its first argument.
        tail: its second argument.
        type: type of the relation.
        score: score of a predicted one.
        evidence: numbers of the sentences that state a gold one, if the file says so.
        in_train: whether a fact of the training file has the same type and, of any mentions, the same names.
    """

    head: int
    tail: int
    type: str
    score: float | None = None
    evidence: tuple[int, ...] = ()
    in_train: bool = False

    @property
    def fact(self) -> tuple[int, int, str]:
        """What makes a prediction right."""
        return self.head, self.tail, self.type

    def as_json(self) -> dict[str, Any]:
        """Fields of the edge, without those that are empty."""
        values: dict[str, Any] = {"head": self.head, "tail": self.tail, "type": self.type}
        if self.score is not None:
            values["score"] = self.score
        if self.evidence:
            values["evidence"] = list(self.evidence)
        return values | ({"in_train": True} if self.in_train else {})


@dataclass(frozen=True)
class PairScores:
    """Scores of all relations of P ordered pairs, before anything is decided."""

    pairs: NDArray[np.int64]  # [P, 2] numbers of nodes
    scores: NDArray[np.float32]  # [P, R]
    relations: tuple[str, ...]  # [R]


@dataclass(frozen=True)
class DocumentGraph:
    """A document with its relations, or with those that a model sees.

    Args:
        title: title of the document.
        nodes: by the numbers that the file gives entities.
        edges: none twice.
        document: what the model reads; None where a graph is read from a file of predictions.
        scores: what a model whose threshold is not chosen yet has found; it has no edges then.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    document: Document | None = None
    scores: PairScores | None = None

    @classmethod
    def of(cls, document: Document, *, language: str) -> Self:
        """The graph of an annotated document; the language decides how its text is split into sentences."""
        starts = [start for start, _ in document.locate_sentences(language)] if document.words is None else []
        size = 1 + max(
            [-1, *(one.entity for one in document.mentions), *(max(one.head, one.tail) for one in document.facts)]
        )
        mentions: list[list[NamedPlace]] = [[] for _ in range(size)]
        types = [""] * size
        for one, (start, end) in zip(document.mentions, document.characters(), strict=True):
            sentence = one.sentence if document.words is not None else max(0, bisect_right(starts, start) - 1)
            name = one.name or " ".join(document.text[start:end].split())
            mentions[one.entity].append(NamedPlace(name, sentence, one.start, one.end))
            types[one.entity] = types[one.entity] or one.type
        nodes = tuple(Node(type, tuple(places)) for type, places in zip(types, mentions, strict=True))
        edges: dict[tuple[int, int, str], Edge] = {}
        for fact in document.facts:
            edges.setdefault(fact[:3], Edge(*fact[:3], evidence=tuple(dict.fromkeys(fact.evidence))))
        return cls(document.name, nodes, tuple(edges.values()), document)

    @cached_property
    def sentences(self) -> list[set[int]]:
        """The sentences that mention each node."""
        return [node.sentences for node in self.nodes]

    def is_single(self, edge: Edge) -> bool:
        """Whether some sentence mentions both head and tail."""
        return not self.sentences[edge.head].isdisjoint(self.sentences[edge.tail])

    def named_facts(self) -> set[tuple[str, str, str]]:
        """(name of the head, name of the tail, relation) of all edges and all their mentions."""
        return {named for edge in self.edges for named in self._names(edge)}

    def marked(self, known: set[tuple[str, str, str]]) -> DocumentGraph:
        """The same, whose edges say whether they are among facts of the training file."""
        edges = (edge._replace(in_train=not known.isdisjoint(self._names(edge))) for edge in self.edges)
        return replace(self, edges=tuple(edges))

    def decided(self, threshold: float) -> DocumentGraph:
        """The same with the relations as edges whose scores are not below a threshold."""
        assert self.scores is not None
        rows, relations = np.nonzero(self.scores.scores >= np.float32(threshold))
        scores = self.scores.scores[rows, relations]
        edges = (
            Edge(head, tail, self.scores.relations[relation], score)
            for (head, tail), relation, score in zip(
                self.scores.pairs[rows].tolist(), relations.tolist(), scores.tolist(), strict=True
            )
        )
        return replace(self, edges=tuple(edges), scores=None)

    def as_json(self) -> dict[str, Any]:
        """What a line of a file holds."""
        nodes = [
            {
                "name": node.name,
                "type": node.type,
                "mentions": [mention._asdict() for mention in node.mentions],
            }
            for node in self.nodes
        ]
        edges = [edge.as_json() for edge in self.edges]
        return {"title": self.title, "nodes": nodes, "edges": edges}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The graph of a line; raises ValueError, KeyError or TypeError if it holds none."""
        nodes = tuple(
            Node(node["type"], tuple(NamedPlace(**mention) for mention in node["mentions"])) for node in values["nodes"]
        )
        edges = tuple(Edge(**edge | {"evidence": tuple(edge.get("evidence", ()))}) for edge in values["edges"])
        if not all(0 <= node < len(nodes) for edge in edges for node in (edge.head, edge.tail)):
            raise ValueError(f"an edge names a node that is not among the {len(nodes)}")
        return cls(values["title"], nodes, edges)

    def _names(self, edge: Edge) -> set[tuple[str, str, str]]:
        heads, tails = self.nodes[edge.head].mentions, self.nodes[edge.tail].mentions
        return {(head.name, tail.name, edge.type) for head in heads for tail in tails}
