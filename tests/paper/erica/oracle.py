"""ERICA's objectives as the paper states them: slow loops over plain lists, one document, fact or piece at a time."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, permutations

import numpy as np
import torch
from torch import Tensor

from data_shards.ragged import Ragged
from data_shards.shards.record import BLOCKED, UNLINKED, Records
from tests.unit.spe_dist.batches.sentences import random_sentences, records_of

TEMPERATURE = 0.05
NA = None  # relation of a pair without one


@dataclass(frozen=True)
class Document:
    """A record with names for what it holds.

    Args:
        words: pieces of each word.
        sentence_starts: first word of each sentence.
        mentions: first word, end word and entity of each.
        knowledge: what each entity is in the knowledge base, or UNLINKED.
        relations: head, tail and relation; the relation BLOCKED is none.
    """

    words: Sequence[Sequence[int]]
    sentence_starts: Sequence[int]
    mentions: Sequence[tuple[int, int, int]]
    knowledge: Sequence[int]
    relations: Sequence[tuple[int, int, int]]

    @property
    def facts(self) -> list[tuple[int, int, int]]:
        return [row for row in self.relations if row[2] != BLOCKED]

    @cached_property
    def pairs_of_no_relation(self) -> set[tuple[int, int]]:
        """Ordered pairs of entities without a fact that are not BLOCKED."""
        taken = {(head, tail) for head, tail, _ in self.relations}
        return {pair for pair in permutations(range(len(self.knowledge)), 2) if pair not in taken}

    @property
    def pieces(self) -> list[int]:
        return [piece for word in self.words for piece in word]

    def pieces_of_words(self, start: int, end: int) -> list[int]:
        """Indices of the pieces of some words."""
        before = sum(len(word) for word in self.words[:start])
        return list(range(before, before + sum(len(word) for word in self.words[start:end])))

    def sentences_of(self, entity: int) -> set[int]:
        return {
            max(number for number, first in enumerate(self.sentence_starts) if first <= start)
            for start, _, mentioned in self.mentions
            if mentioned == entity
        }

    def is_single(self, head: int, tail: int) -> bool:
        """Whether a mention of each stand in the same sentence."""
        return bool(self.sentences_of(head) & self.sentences_of(tail))

    def entity_vectors(self, states: Tensor) -> list[Tensor]:
        """Mean over an entity's mentions of the mean over a mention's pieces; states are those of the document."""
        vectors = []
        for entity in range(len(self.knowledge)):
            mentions = [(start, end) for start, end, mentioned in self.mentions if mentioned == entity]
            means = [
                sum(states[i] for i in self.pieces_of_words(*one)) / len(self.pieces_of_words(*one)) for one in mentions
            ]
            vectors.append(sum(means) / len(means))
        return vectors

    def maskable(self) -> set[int]:
        """Indices of the pieces that are in no mention."""
        mentioned = {i for start, end, _ in self.mentions for i in self.pieces_of_words(start, end)}
        return set(range(len(self.pieces))) - mentioned

    def tails_to_choose_from(self, fact: tuple[int, int, int], *, true_tails: bool = False) -> list[int]:
        """The fact's tail, then what is no answer to (head, relation, ?); with true_tails, other answers too.

        Not who is BLOCKED with the head: nobody may say that they are unrelated.
        """
        head, tail, relation = fact
        blocked = {t for h, t, r in self.relations if (h, r) == (head, BLOCKED)}
        answers = {t for h, t, r in self.facts if (h, r) == (head, relation)}
        others = [one for one in range(len(self.knowledge)) if one not in (head, tail) and one not in blocked]
        return [tail, *(one for one in others if true_tails or one not in answers)]


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum() / ((one * one).sum().sqrt() * (other * other).sum().sqrt())


def cross_entropy_of_first(similarities: Sequence[Tensor]) -> Tensor:
    scaled = torch.stack(list(similarities)) / TEMPERATURE
    return -(scaled[0].exp() / scaled.exp().sum()).log()


def entity_discrimination(document: Document, states: Tensor, fact: tuple[int, int, int], **choice: bool) -> Tensor:
    """Loss of one document: the tail must be nearer to the head than any other entity."""
    vectors = document.entity_vectors(states)
    choices = document.tails_to_choose_from(fact, **choice)
    return cross_entropy_of_first([cosine(vectors[fact[0]], vectors[one]) for one in choices])


@dataclass(frozen=True)
class Row:
    """A candidate of relation discrimination: an ordered pair of entities of a document; relation NA for none."""

    document: int
    head: int
    tail: int
    relation: int | None

    def overlaps(self, other: "Row") -> bool:
        return self.document == other.document and (self.head == other.head or self.tail == other.tail)


def may_be_positive(anchor: Row, other: Row) -> bool:
    return anchor.relation is not NA and anchor.relation == other.relation and not anchor.overlaps(other)


def may_be_negative(anchor: Row, other: Row, documents: Sequence[Document]) -> bool:
    """A pair that holds the anchor's relation too is none, whichever of its facts the row is."""
    relations = {r for h, t, r in documents[other.document].facts if (h, t) == (other.head, other.tail)}
    return anchor.relation not in relations and not anchor.overlaps(other)


def pair_vector(vectors: Sequence[Sequence[Tensor]], row: Row) -> Tensor:
    return torch.cat([vectors[row.document][row.head], vectors[row.document][row.tail]])


def relation_discrimination(
    vectors: Sequence[Sequence[Tensor]], anchor: Row, positive: Row, negatives: Sequence[Row]
) -> Tensor:
    """Loss of one anchor.

    Args:
        vectors: of the entities of each document.
    """
    one = pair_vector(vectors, anchor)
    return cross_entropy_of_first([cosine(one, pair_vector(vectors, other)) for other in (positive, *negatives)])


def documents_of(records: Records) -> list[Document]:
    documents = []
    for index in range(len(records)):
        row = {name: layer.row(index).tolist() for name, layer in records.layers.items()}
        ends = [*row["words"][1:], len(row["pieces"])]
        words = [row["pieces"][start:end] for start, end in zip(row["words"], ends, strict=True)]
        mentions = [
            (start, end, entity)
            for (start, end, _), entity in zip(row["entities"], row["mention_entities"], strict=True)
        ]
        relations = [tuple(one) for one in row["relations"]]
        documents.append(Document(words, row["sentence_starts"], mentions, row["knowledge_ids"], relations))
    return documents


def random_documents(
    count: int, *, seed: int, relations: int = 3, linked: int = 30, least: int = 12, longest: int = 40
) -> Records:
    """Documents with many mentions, pairs of several relations, several tails of a head, and blocked pairs; some have
    one entity only, or no fact."""
    chance = random.Random(seed)
    texts = random_sentences(count, seed=seed, least=least, longest=longest)
    layers: dict[str, list] = {
        name: [] for name in ("entities", "sentence_starts", "mention_entities", "knowledge_ids", "relations")
    }
    for text in texts:
        cuts = sorted(chance.sample(range(len(text) + 1), min(len(text) + 1, chance.randint(4, 16))))
        spans = [(start, end) for start, end in pairwise(cuts) if chance.random() < 0.7] or [cuts[:2]]
        of_mention, numbers = [], {}
        for _ in spans:
            name = chance.randrange(max(1, chance.choice((1, len(spans), len(spans)))))
            of_mention.append(numbers.setdefault(name, len(numbers)))
        pairs = list(permutations(range(len(numbers)), 2))
        facts = {(*pair, relation) for pair in pairs for relation in range(relations) if chance.random() < 0.12}
        facts = set() if chance.random() < 0.1 else facts
        free = {tuple(sorted(pair)) for pair in pairs} - {tuple(sorted(fact[:2])) for fact in facts}
        blocked = [pair for pair in sorted(free) if chance.random() < 0.15]
        rows = sorted(facts) + [(*pair, BLOCKED) for one in blocked for pair in (one, one[::-1])]
        layers["entities"].append([(start, end, chance.randrange(4)) for start, end in spans])
        layers["sentence_starts"].append([0, *sorted(chance.sample(range(1, len(text)), min(len(text) - 1, 3)))])
        layers["mention_entities"].append(of_mention)
        ids = chance.sample(range(linked), len(numbers))
        layers["knowledge_ids"].append([id if chance.random() < 0.9 else UNLINKED for id in ids])
        layers["relations"].append(sorted(rows))
    records = records_of(texts)
    for name, parts in layers.items():
        columns = (3,) if name in ("entities", "relations") else ()
        values = np.array([value for part in parts for value in part], dtype=np.int64).reshape(-1, *columns)
        records = records.with_layer(name, Ragged.from_lengths(values, np.array([len(part) for part in parts])))
    return records
