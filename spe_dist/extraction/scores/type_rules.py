"""One-line rules that relate entities by their types alone: what an extractor must beat to be worth training.

Two rules are read off the training data, and applied to the entities that an extractor has found:

- **majority**: two entities are related if entities of their types are, in this order and in one sentence, in more than
  half of the cases; by the relation that is the most frequent there.
- **best**: relate whatever types of head and tail by whatever relation gives the best strict F1 on the training data's
  own entities. A triple of types is worth having exactly if the share of its pairs that it is right about is above half
  of the best F1, so taking the surest triples first and stopping at the peak finds the best set of all.

Pairs are counted with direction, and distinct entities of a sentence once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Relation
from spe_dist.extraction.model.constraints import Triple, triples_of

RULES = ("majority", "best")
_MAJORITY = 0.5


@dataclass(frozen=True)
class TypeRules:
    """Head type, relation type and tail type of what each rule relates.

    Args:
        majority: by the majority of pairs.
        best: by the F1 on the training data.
    """

    majority: tuple[Triple, ...]
    best: tuple[Triple, ...]

    @classmethod
    def of(cls, sentences: Sequence[AnnotatedSentence]) -> TypeRules:
        """The rules that training sentences give."""
        distinct = [_distinct(sentence) for sentence in sentences]
        pairs = Counter(
            (sentence.entities[head].type, sentence.entities[tail].type)
            for sentence in distinct
            for head, tail in permutations(range(len(sentence.entities)), 2)
        )
        related = Counter(
            (sentence.entities[head].type, sentence.entities[tail].type)
            for sentence in distinct
            for head, tail in {(relation.head, relation.tail) for relation in sentence.relations}
        )
        triples = triples_of(distinct)
        return cls(_majority(pairs, related, triples), _best(pairs, triples))


def relate(sentences: Sequence[AnnotatedSentence], rule: Sequence[Triple]) -> list[AnnotatedSentence]:
    """The sentences with their entities, and the relations that a rule sees between these.

    Args:
        sentences: with entities; their relations are not looked at.
        rule: one of `TypeRules`.
    """
    relations_of: dict[tuple[str, str], list[str]] = {}
    for head, relation, tail in rule:
        relations_of.setdefault((head, tail), []).append(relation)
    return [
        replace(
            sentence,
            relations=tuple(
                Relation(head, tail, relation)
                for head, tail in permutations(range(len(sentence.entities)), 2)
                if sentence.entities[head] != sentence.entities[tail]
                for relation in relations_of.get((sentence.entities[head].type, sentence.entities[tail].type), ())
            ),
        )
        for sentence in sentences
    ]


def _majority(
    pairs: Counter[tuple[str, str]], related: Counter[tuple[str, str]], triples: Counter[Triple]
) -> tuple[Triple, ...]:
    rule = []
    for types, count in sorted(related.items()):
        if count > _MAJORITY * pairs[types]:
            candidates = [triple for triple in triples if (triple[0], triple[2]) == types]
            rule.append(min(candidates, key=lambda triple: (-triples[triple], triple)))
    return tuple(rule)


def _best(pairs: Counter[tuple[str, str]], triples: Counter[Triple]) -> tuple[Triple, ...]:
    surest = sorted(triples, key=lambda triple: (-triples[triple] / pairs[triple[0], triple[2]], triple))
    gold, correct, predicted = triples.total(), 0, 0
    f1, best = 0.0, 0
    for number, triple in enumerate(surest, start=1):
        correct, predicted = correct + triples[triple], predicted + pairs[triple[0], triple[2]]
        reached = 2 * correct / (predicted + gold)
        if reached > f1:
            f1, best = reached, number
    return tuple(surest[:best])


def _distinct(sentence: AnnotatedSentence) -> AnnotatedSentence:
    """The sentence with each entity and each relation of two entities once."""
    entities = tuple(sorted(set(sentence.entities)))
    numbers = {entity: number for number, entity in enumerate(entities)}
    facts = {
        (numbers[sentence.entities[relation.head]], numbers[sentence.entities[relation.tail]], relation.type)
        for relation in sentence.relations
    }
    relations = tuple(Relation(*fact) for fact in sorted(facts) if fact[0] != fact[1])
    return replace(sentence, entities=entities, relations=relations)
