"""How good predicted entities and relations are: precision, recall and F1, in all and by type, sentence and distance.

Three measures, named so that nobody need ask which F1 it is:

- `entity_f1`: an entity is right if its words and its type are;
- `relation_f1`: a relation is right if the words of both arguments, its type and its direction are, whatever the types
  of the arguments;
- `relation_strict_f1`: the types of both arguments must be right as well.

What is counted are distinct facts of a sentence: a fact predicted twice counts once, and so does one that the data give
twice. Micro scores add up the counts of all types. Macro scores are means of the scores of the types that have at least
one gold or predicted fact; the macro F1 is the mean of F1s. Where nothing is to be divided by, a score is 0.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.counted import counted
from data_shards.errors import UserError
from spe_dist.finetuning.measures import precision_recall_f1

RELATION_MEASURES = ("relation_f1", "relation_strict_f1")
MEASURES = ("entity_f1", *RELATION_MEASURES)

# Smallest value of each group; the last group has no upper end.
ENTITIES_IN_SENTENCE = (0, 1, 2, 3, 4, 5, 6)
RELATIONS_IN_SENTENCE = (0, 1, 2, 3, 4, 5)
WORDS_IN_SENTENCE = (0, 11, 21, 31, 41, 51)
WORDS_BETWEEN = (0, 1, 3, 6, 11, 21)


@dataclass(frozen=True)
class Score:
    """Precision, recall and F1 in 0..1, and the numbers of facts that they are made of."""

    precision: float
    recall: float
    f1: float
    correct: int
    predicted: int
    gold: int


@dataclass(frozen=True)
class MacroScore:
    """Means over types that are in the gold facts or in the predicted ones."""

    precision: float
    recall: float
    f1: float
    types: int


@dataclass(frozen=True)
class MeasureScores:
    """One measure of one prediction of a corpus. Groups without gold and predicted facts are left out.

    Args:
        micro: over all facts.
        macro: over types.
        by_type: of each type.
        by_entities: by the number of gold entities in the sentence.
        by_relations: by the number of gold relations in the sentence, each with the types of its arguments.
        by_length: by the number of words in the sentence.
        by_distance: by the number of words between the two arguments; empty for entities.
    """

    micro: Score
    macro: MacroScore
    by_type: dict[str, Score]
    by_entities: dict[str, Score]
    by_relations: dict[str, Score]
    by_length: dict[str, Score]
    by_distance: dict[str, Score]


@dataclass(frozen=True)
class Facts:
    """The distinct facts of a corpus that are gold, predicted or both: one row each.

    Args:
        measure: which of `MEASURES` says what makes two facts the same.
        types: labels, sorted.
        sentence: [facts] number of the sentence.
        type: [facts] number of the label.
        distance: [facts] words between the two arguments of a relation; 0 for entities.
        predicted: [facts] whether it was predicted.
        gold: [facts] whether it is true.
        num_sentences: with and without facts.
    """

    measure: str
    types: tuple[str, ...]
    sentence: NDArray[np.int64]
    type: NDArray[np.int64]
    distance: NDArray[np.int64]
    predicted: NDArray[np.bool_]
    gold: NDArray[np.bool_]
    num_sentences: int

    def counts(self, group: NDArray[np.int64], num_groups: int) -> NDArray[np.int64]:
        """[groups, (correct, predicted, gold)] of facts that are grouped by `group` [facts]."""
        rows = (self.predicted & self.gold, self.predicted, self.gold)
        return np.stack([np.bincount(group[chosen], minlength=num_groups) for chosen in rows], axis=-1)

    def sentence_counts(self) -> NDArray[np.int64]:
        """[sentences, (correct, predicted, gold)]: all that resampling needs."""
        return self.counts(self.sentence, self.num_sentences)


def find_facts(
    gold: Sequence[AnnotatedSentence],
    predicted: Sequence[AnnotatedSentence],
    measure: str,
    *,
    symmetric: Collection[str] = (),
) -> Facts:
    """Line up what was predicted for a corpus with what is true.

    Args:
        gold: the corpus.
        predicted: the same sentences, in the same order, with predicted entities and relations.
        measure: one of `MEASURES`: what makes two facts the same.
        symmetric: types of relations whose direction means nothing.

    Raises:
        UserError: the sentences are not the same.
    """
    check_same_words(gold, predicted)
    rows: list[tuple[int, str, int, bool, bool]] = []
    for number, (true, guess) in enumerate(zip(gold, predicted, strict=True)):
        is_true, is_guessed = (facts_of(sentence, measure, symmetric) for sentence in (true, guess))
        rows += [
            (number, *description, key in is_guessed, key in is_true)
            for key, description in (is_true | is_guessed).items()
        ]
    types = tuple(sorted({row[1] for row in rows}))
    numbers = {label: number for number, label in enumerate(types)}
    sentence, labels, distance, is_predicted, is_gold = zip(*rows, strict=True) if rows else ((),) * 5
    return Facts(
        measure,
        types,
        np.array(sentence, dtype=np.int64),
        np.array([numbers[label] for label in labels], dtype=np.int64),
        np.array(distance, dtype=np.int64),
        np.array(is_predicted, dtype=np.bool_),
        np.array(is_gold, dtype=np.bool_),
        len(gold),
    )


def score(
    gold: Sequence[AnnotatedSentence], predicted: Sequence[AnnotatedSentence], *, symmetric: Collection[str] = ()
) -> dict[str, MeasureScores]:
    """All scores of a prediction, by measure.

    Args:
        gold: the corpus.
        predicted: the same sentences, in the same order, with predicted entities and relations.
        symmetric: types of relations whose direction means nothing.

    Raises:
        UserError: the sentences are not the same.
    """
    return {
        measure: score_facts(gold, find_facts(gold, predicted, measure, symmetric=symmetric), symmetric=symmetric)
        for measure in MEASURES
    }


def score_facts(gold: Sequence[AnnotatedSentence], facts: Facts, *, symmetric: Collection[str] = ()) -> MeasureScores:
    """The scores of one measure.

    Args:
        gold: the corpus: which sentences are long, or have many entities or relations.
        facts: what was found in it.
        symmetric: types of relations whose direction means nothing.
    """
    entities = np.array([len(set(sentence.entities)) for sentence in gold], dtype=np.int64)
    relations = np.array(
        [len(facts_of(sentence, "relation_strict_f1", symmetric)) for sentence in gold], dtype=np.int64
    )
    words = np.array([len(sentence.words) for sentence in gold], dtype=np.int64)
    by_type = facts.counts(facts.type, len(facts.types))
    return MeasureScores(
        micro=_score(facts.sentence_counts().sum(0)),
        macro=_macro_score(by_type),
        by_type=_scores_of_groups(facts.types, by_type),
        by_entities=_by_size(facts, entities[facts.sentence], ENTITIES_IN_SENTENCE),
        by_relations=_by_size(facts, relations[facts.sentence], RELATIONS_IN_SENTENCE),
        by_length=_by_size(facts, words[facts.sentence], WORDS_IN_SENTENCE),
        by_distance={} if facts.measure == "entity_f1" else _by_size(facts, facts.distance, WORDS_BETWEEN),
    )


def check_same_words(gold: Sequence[AnnotatedSentence], predicted: Sequence[AnnotatedSentence]) -> None:
    """Raise a UserError if these are not the same sentences in the same order."""
    if len(gold) != len(predicted):
        given = counted(len(predicted), "sentence")
        raise UserError(f"{given} predicted, but {len(gold)} in the gold data: predict all of them")
    for number, (true, guess) in enumerate(zip(gold, predicted, strict=True), start=1):
        if true.words != guess.words:
            raise UserError(
                f"sentence {number} has other words in the prediction than in the gold data: "
                "predict the same file, in the same order"
            )


def facts_of(
    sentence: AnnotatedSentence, measure: str, symmetric: Collection[str] = ()
) -> dict[Hashable, tuple[str, int]]:
    """What makes each distinct fact of a sentence what it is -> its type, and the words between its arguments."""
    if measure == "entity_f1":
        return {entity: (entity.type, 0) for entity in sentence.entities}
    strict = {"relation_f1": False, "relation_strict_f1": True}[measure]
    facts: dict[Hashable, tuple[str, int]] = {}
    for relation in sentence.relations:
        between = words_between(sentence.entities[relation.head], sentence.entities[relation.tail])
        facts[relation_key(sentence, relation, strict=strict, symmetric=symmetric)] = (relation.type, between)
    return facts


def relation_key(
    sentence: AnnotatedSentence, relation: Relation, *, strict: bool, symmetric: Collection[str] = ()
) -> Hashable:
    """What makes a relation of a sentence what it is; strict: the types of its arguments, too."""
    ends = (sentence.entities[relation.head], sentence.entities[relation.tail])
    pair = tuple((end.word_start, end.word_end, end.type if strict else "") for end in ends)
    return relation.type, tuple(sorted(pair)) if relation.type in symmetric else pair


def words_between(first: Entity, second: Entity) -> int:
    """Number of words between two entities; 0 if they touch or overlap."""
    return max(0, max(first.word_start, second.word_start) - min(first.word_end, second.word_end))


def _score(counts: NDArray[np.int64]) -> Score:
    return Score(*precision_recall_f1(counts).tolist(), *counts.tolist())


def _macro_score(by_type: NDArray[np.int64]) -> MacroScore:
    present = by_type[by_type.any(1)]
    precision, recall, f1 = precision_recall_f1(present).mean(0).tolist() if len(present) else (0.0, 0.0, 0.0)
    return MacroScore(precision, recall, f1, len(present))


def _scores_of_groups(names: Sequence[str], counts: NDArray[np.int64]) -> dict[str, Score]:
    return {name: _score(row) for name, row in zip(names, counts, strict=True) if row.any()}


def _by_size(facts: Facts, sizes: NDArray[np.int64], bounds: tuple[int, ...]) -> dict[str, Score]:
    group = np.searchsorted(bounds, sizes, side="right") - 1
    return _scores_of_groups(group_names(bounds), facts.counts(group, len(bounds)))


def group_names(bounds: tuple[int, ...]) -> list[str]:
    """'0', '1-2', …, '21+' of the smallest values of groups."""
    ends = [bound - 1 for bound in bounds[1:]]
    names = [str(first) if first == last else f"{first}-{last}" for first, last in zip(bounds, ends, strict=False)]
    return [*names, f"{bounds[-1]}+"]
