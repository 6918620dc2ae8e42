"""Entities and entity pairs of annotated documents with their labels, and their vectors by any encoder."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.annotated.document import Document
from data_shards.text.word_pieces import WordPieces
from data_shards.tokenizer.files import SpecialIds
from spe_dist.documents.document_pieces import DocumentPieces
from spe_dist.documents.pooled_vectors import PooledForwards, PooledText
from spe_dist.models.sentence_encoder import SentenceEncoder

_Points = dict[tuple[int, ...], tuple[str, str]]  # label and name by entities


@dataclass(frozen=True)
class LabelledPoints:
    """N entities, or ordered pairs of entities, each with one label."""

    entities: tuple[tuple[int, ...], ...]  # of each the document, then one entity, or head and tail
    labels: tuple[str, ...]
    names: tuple[str, ...]

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """The document of each, [N]."""
        return np.array([entities[0] for entities in self.entities], dtype=np.int64)

    @cached_property
    def label_numbers(self) -> NDArray[np.int64]:
        """The label of each as a number, in the order of the labels, [N]."""
        return np.unique(self.labels, return_inverse=True)[1]

    def draw(self, most: int, seed: int) -> LabelledPoints:
        """Some of them at random, in their order; all if there are no more."""
        rows = np.random.default_rng(seed).permutation(len(self.labels))[:most]
        return self._take(sorted(rows.tolist()))

    def within(self, cut: Sequence[DocumentPieces]) -> LabelledPoints:
        """Points whose entities are all still present after the documents were cut to length."""
        left = [set(document.numbers.tolist()) for document in cut]
        return self._take([row for row, (document, *of) in enumerate(self.entities) if left[document].issuperset(of)])

    def vectors(self, cut: Sequence[DocumentPieces], of_entities: Tensor) -> Tensor:
        """Vectors of entities [N, H], or of pairs [head ; tail] [N, 2 H].

        Args:
            cut: the documents, with all entities of these points.
            of_entities: vectors of all entities of all documents.
        """
        numbered = ((i, number) for i, document in enumerate(cut) for number in document.numbers.tolist())
        rows = {place: row for row, place in enumerate(numbered)}
        places = [[rows[document, entity] for entity in of] for document, *of in self.entities]
        return of_entities[torch.tensor(places)].flatten(1)

    def _take(self, rows: Sequence[int]) -> LabelledPoints:
        return LabelledPoints(
            tuple(self.entities[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            tuple(self.names[row] for row in rows),
        )


def entity_points(documents: Sequence[Document]) -> LabelledPoints:
    """All entities by type: that of their first mention in the file, which also names them."""
    points: _Points = {
        (number, entity): (document.mentions[first].type, name)
        for number, document in enumerate(documents)
        for entity, (first, name) in _first_mentions(document).items()
    }
    return _points(points)


def pair_points(documents: Sequence[Document], *, relations: int) -> LabelledPoints:
    """Pairs of entities that have exactly one of the most frequent relations.

    Args:
        documents: with facts between entities.
        relations: how many, counted by facts.
    """
    counts = Counter(fact.type for document in documents for fact in set(document.facts))
    frequent = sorted(counts, key=lambda name: (-counts[name], name))[:relations]
    points: _Points = {}
    for number, document in enumerate(documents):
        names, of_pair = _first_mentions(document), defaultdict(set)
        for fact in document.facts:
            if fact.type in frequent and fact.head in names and fact.tail in names and fact.head != fact.tail:
                of_pair[fact.head, fact.tail].add(fact.type)
        for (head, tail), types in of_pair.items():
            if len(types) == 1:
                points[number, head, tail] = (types.pop(), f"{names[head][1]} → {names[tail][1]}")
    return _points(points)


def entity_vectors(encoder: SentenceEncoder, cut: Sequence[DocumentPieces], special: SpecialIds) -> Tensor:
    """Vectors of all entities of all documents, on the CPU; the encoder must be in evaluation."""
    texts = [PooledText(document.piece_ids, document.mentions, len(document.numbers)) for document in cut]
    with torch.no_grad():
        return PooledForwards.pack(texts, special).vectors(encoder).cpu()


def cut_documents(documents: Sequence[Document], word_pieces: WordPieces, *, max_pieces: int) -> list[DocumentPieces]:
    """The sentences of documents that fit, from the first on, without their facts."""
    bare = [document._replace(facts=()) for document in documents]
    return [DocumentPieces.of(document, word_pieces, {}, max_pieces=max_pieces) for document in bare]


def _first_mentions(document: Document) -> dict[int, tuple[int, str]]:
    """The number of each entity's first mention, and its text."""
    first: dict[int, tuple[int, str]] = {}
    for row, (mention, (start, end)) in enumerate(zip(document.mentions, document.characters(), strict=True)):
        first.setdefault(mention.entity, (row, " ".join(document.text[start:end].split())))
    return first


def _points(points: _Points) -> LabelledPoints:
    labels, names = (tuple(column) for column in zip(*points.values(), strict=True)) if points else ((), ())
    return LabelledPoints(tuple(points), labels, names)
