"""What annotated data hold, counted before anybody trains on them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity
from spe_dist.extraction.model.constraints import Triple, triples_of

_MOSTLY_LEFT_TO_RIGHT = 0.85
_OFTEN = 0.5


@dataclass(frozen=True)
class RelationStatistics:
    """Relations of one type.

    Args:
        count: number of relations of this type.
        left_to_right: number of these whose head comes first in the text.
        both_ways: number of these whose two entities have the same relation in the other direction too.
        same_types: number of these between two entities of one type.
    """

    count: int
    left_to_right: int
    both_ways: int
    same_types: int

    @property
    def looks_symmetric(self) -> bool:
        """Annotated in both directions, or in text order between entities that could change places."""
        in_text_order = self.left_to_right >= _MOSTLY_LEFT_TO_RIGHT * self.count
        return self.both_ways >= _OFTEN * self.count or (in_text_order and self.same_types >= _OFTEN * self.count)


@dataclass(frozen=True)
class DataStatistics:
    """Counts over annotated sentences.

    Args:
        sentences: number of sentences.
        documents: number of names of documents.
        words: number of words.
        without_entities: number of sentences without entities.
        of_several_entities: number of sentences with two or more entities.
        unrelated: number of the latter without any relation.
        words_of_sentence: [sentences].
        entities_of_sentence: [sentences].
        entity_types: entities of each type.
        relation_types: relations of each type.
        triples: relations of each type between entities of each type.
        overlapping: pairs of entities that share words.
        nested: number of these pairs in which one entity lies inside the other.
        equal_words: number of these pairs on exactly the same words.
        pairs: pairs of entities, without direction, over all sentences.
        related_pairs: pairs with a relation, with direction.
        pairs_of_several_relations: number of these with more than one type.
        relations_of_overlapping: relations whose arguments share words: a pair of spans with a text between them has no
            place for them.
        words_between: related entities, of each relation between entities that share no words.
        repeated: sentences whose words occurred before.
    """

    sentences: int
    documents: int
    words: int
    without_entities: int
    of_several_entities: int
    unrelated: int
    words_of_sentence: list[int]
    entities_of_sentence: list[int]
    entity_types: Counter[str]
    relation_types: dict[str, RelationStatistics]
    triples: Counter[Triple]
    overlapping: int
    nested: int
    equal_words: int
    pairs: int
    related_pairs: int
    pairs_of_several_relations: int
    relations_of_overlapping: int
    words_between: list[int]
    repeated: int


def count_data(sentences: Sequence[AnnotatedSentence]) -> DataStatistics:
    """Count what sentences hold."""
    overlaps = _count_overlaps(sentences)
    related = Counter(
        (number, relation.head, relation.tail)
        for number, sentence in enumerate(sentences)
        for relation in sentence.relations
    )
    arguments = [
        (sentence.entities[relation.head], sentence.entities[relation.tail])
        for sentence in sentences
        for relation in sentence.relations
    ]
    apart = [(head, tail) for head, tail in arguments if not _overlap(head, tail)]
    lengths = [len(sentence.words) for sentence in sentences]
    entities = [len(sentence.entities) for sentence in sentences]
    return DataStatistics(
        sentences=len(sentences),
        documents=len({sentence.document for sentence in sentences} - {""}),
        words=sum(lengths),
        without_entities=entities.count(0),
        of_several_entities=sum(count > 1 for count in entities),
        unrelated=sum(is_unrelated(sentence) for sentence in sentences),
        words_of_sentence=lengths,
        entities_of_sentence=entities,
        entity_types=Counter(entity.type for sentence in sentences for entity in sentence.entities),
        relation_types=_count_relations(sentences),
        triples=triples_of(sentences),
        overlapping=overlaps["overlapping"],
        nested=overlaps["nested"],
        equal_words=overlaps["equal"],
        pairs=sum(count * (count - 1) // 2 for count in entities),
        related_pairs=len(related),
        pairs_of_several_relations=sum(count > 1 for count in related.values()),
        relations_of_overlapping=len(arguments) - len(apart),
        words_between=[
            max(head.word_start, tail.word_start) - min(head.word_end, tail.word_end) for head, tail in apart
        ],
        repeated=len(sentences) - len({_composed(sentence.words) for sentence in sentences}),
    )


def is_unrelated(sentence: AnnotatedSentence) -> bool:
    """Whether two or more entities stand in a sentence, and none is related to another."""
    return len(sentence.entities) > 1 and not sentence.relations


def count_contradictions(sentences: Sequence[AnnotatedSentence]) -> int:
    """Sentences whose words occurred before, with other annotations."""
    first: dict[tuple[str, ...], AnnotatedSentence] = {}
    return sum(
        _annotation(first.setdefault(_composed(sentence.words), sentence)) != _annotation(sentence)
        for sentence in sentences
    )


@dataclass(frozen=True)
class SharedSentence:
    """A sentence of one file whose words occur in another.

    Args:
        number: number of the sentence in its file.
        other: number of the first sentence with these words in the other file.
        differently: no sentence with these words there has the same annotations.
    """

    number: int
    other: int
    differently: bool


def find_shared(of: Sequence[AnnotatedSentence], among: Sequence[AnnotatedSentence]) -> list[SharedSentence]:
    """The sentences that occur among others, word by word: with the same case, letters composed or not."""
    known: dict[tuple[str, ...], list[int]] = {}
    for number, sentence in enumerate(among):
        known.setdefault(_composed(sentence.words), []).append(number)
    return [
        SharedSentence(number, there[0], all(_annotation(among[other]) != _annotation(sentence) for other in there))
        for number, sentence in enumerate(of)
        if (there := known.get(_composed(sentence.words)))
    ]


def _composed(words: Sequence[str]) -> tuple[str, ...]:
    """Words that are compared: é is one letter, and e with an accent the same."""
    return tuple(unicodedata.normalize("NFC", word) for word in words)


def _annotation(sentence: AnnotatedSentence) -> tuple:
    """What is annotated, whatever the order in which it is written."""
    entities = sentence.entities
    facts = {(entities[relation.head], entities[relation.tail], relation.type) for relation in sentence.relations}
    return frozenset(entities), frozenset(facts)


def _count_relations(sentences: Sequence[AnnotatedSentence]) -> dict[str, RelationStatistics]:
    counts: dict[str, Counter[str]] = {}
    for sentence in sentences:
        facts = {(relation.head, relation.tail, relation.type) for relation in sentence.relations}
        for relation in sentence.relations:
            head, tail = sentence.entities[relation.head], sentence.entities[relation.tail]
            count = counts.setdefault(relation.type, Counter())
            count["count"] += 1
            count["left_to_right"] += (head.word_start, head.word_end) < (tail.word_start, tail.word_end)
            count["both_ways"] += (relation.tail, relation.head, relation.type) in facts
            count["same_types"] += head.type == tail.type
    return {type: RelationStatistics(**count) for type, count in counts.items()}


def _count_overlaps(sentences: Sequence[AnnotatedSentence]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for sentence in sentences:
        for one, other in combinations(sentence.entities, 2):
            counts["overlapping"] += _overlap(one, other)
            counts["nested"] += _inside(one, other) or _inside(other, one)
            counts["equal"] += _inside(one, other) and _inside(other, one)
    return counts


def _words_between(one: Entity, other: Entity) -> int:
    return max(one.word_start, other.word_start) - min(one.word_end, other.word_end)


def _overlap(one: Entity, other: Entity) -> bool:
    return one.word_start < other.word_end and other.word_start < one.word_end


def _inside(inner: Entity, outer: Entity) -> bool:
    return outer.word_start <= inner.word_start and inner.word_end <= outer.word_end
