"""What is odd in annotated data, or makes the scores of a fine-tuning mean less than they seem to."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.counted import counted
from spe_dist.extraction.data.data_statistics import count_contradictions, find_shared, is_unrelated

if TYPE_CHECKING:  # it needs torch
    from spe_dist.extraction.model.encoded_sentences import Labels

# What corpora call a pair of entities without a relation, spelt as `_plain` spells it.
_NO_RELATION = {"norelation", "norel", "none", "na", "n/a", "nil", "null", "other", "unrelated", "nota"}
_ENOUGH = 20  # sentences: of fewer, it says nothing that none is without entities
_NEARLY_NONE = 0.01  # share of them


def data_warnings(
    labels: Labels, train: Sequence[AnnotatedSentence], judged: Mapping[str, Sequence[AnnotatedSentence]]
) -> list[str]:
    """One line for each thing that is odd.

    Args:
        labels: that the model tells apart.
        train: the sentences to learn from.
        judged: "dev" and "test", if there is any.
    """
    lines = type_warnings(labels.entity_types, labels.relation_types) + negatives_warnings("the training data", train)
    for name, sentences in judged.items():
        shared = len(find_shared(sentences, train))
        if shared:
            lines.append(
                f"warning: {shared:,} of {len(sentences):,} {name} sentences are learned from too, which makes scores "
                "too good: remove them from one of the two files (spe data check names them)"
            )
        lines += _unknown_types(name, sentences, labels)
    if not any(sentence.relations for sentences in (train, *judged.values()) for sentence in sentences):
        lines.append("warning: no file has a relation: the model will find entities only")
    return lines


def type_warnings(entity_types: Iterable[str], relation_types: Iterable[str]) -> list[str]:
    """One line for types that are likely to be one, and for relation types that are likely to be none.

    Args:
        entity_types: entity types of all files.
        relation_types: relation types of all files.
    """
    lines = []
    for kind, types in (("entity", entity_types), ("relation", relation_types)):
        alike: dict[str, list[str]] = {}
        for type in sorted(set(types)):
            alike.setdefault(_plain(type), []).append(type)
        lines += [
            f"warning: {kind} types {', '.join(map(ascii, found))} differ in case, blanks or the like alone: they are "
            "learned as different types; give them one name if they are one"
            for found in alike.values()
            if len(found) > 1
        ]
    return lines + [
        f"warning: relation type {type!r} often stands for pairs without a relation, which need no type here: it is "
        f"learned and scored like any other; to leave it out, spe data convert FILE OUT --without-relations {type!r}"
        for type in sorted(set(relation_types))
        if _plain(type) in _NO_RELATION
    ]


def negatives_warnings(name: str, train: Sequence[AnnotatedSentence]) -> list[str]:
    """One line for each kind of sentence that training data lack, so that a model never learns to find nothing.

    Args:
        name: name of the file.
        train: the sentences to learn from.
    """
    lines = []
    annotated = any(sentence.entities for sentence in train)
    empty = sum(not sentence.entities for sentence in train)
    if annotated and _nearly_none(empty, len(train)):
        lines.append(
            f"warning: {empty:,} of {len(train):,} sentences of {name} are without entities: a model trained on them "
            "has hardly seen a text with nothing in it, and finds false entities and relations in such texts: add "
            "sentences of your texts in which there is nothing to find"
        )
    several = sum(len(sentence.entities) > 1 for sentence in train)
    unrelated = sum(map(is_unrelated, train))
    if any(sentence.relations for sentence in train) and _nearly_none(unrelated, several):
        lines.append(
            f"warning: {unrelated:,} of {several:,} sentences of {name} with two or more entities are without "
            "relations: a model trained on them has hardly seen unrelated entities alone, and finds false relations "
            "between such: add sentences whose entities are annotated and unrelated"
        )
    return lines


def _nearly_none(count: int, of: int) -> bool:
    return of >= _ENOUGH and count < _NEARLY_NONE * of


def file_warnings(name: str, sentences: Sequence[AnnotatedSentence]) -> list[str]:
    """One line for each thing that is odd in a file.

    Args:
        name: name of the file.
        sentences: all that it holds.
    """
    lines = []
    if sentences and not any(sentence.entities for sentence in sentences):
        lines.append(f"warning: {name} has no entities at all: check that this file was exported with its annotations")
    contradictions = count_contradictions(sentences)
    if contradictions:
        lines.append(
            f"warning: {counted(contradictions, 'sentence')} of {name} occurred before with other annotations (several "
            "annotators, or one question for each entity?): keep one of each, with all its entities"
        )
    named = [(sentence.document, sentence.number) for sentence in sentences if sentence.document]
    if len(set(named)) < len(named):
        lines.append(
            f"warning: {counted(len(named) - len(set(named)), 'sentence')} of {name} with the document and number of "
            "another one: documents with the same name are counted as one"
        )
    return lines


def _plain(type: str) -> str:
    """A type without what is easily written in two ways: case, blanks and what stands for them, composed letters."""
    letters = unicodedata.normalize("NFKC", type).casefold()
    return "".join(c for c in letters if c not in "_-" and unicodedata.category(c) not in ("Zs", "Cf"))


def _unknown_types(name: str, sentences: Sequence[AnnotatedSentence], labels: Labels) -> list[str]:
    found = {
        "entity": {entity.type for one in sentences for entity in one.entities} - set(labels.entity_types),
        "relation": {relation.type for one in sentences for relation in one.relations} - set(labels.relation_types),
    }
    return [
        f"warning: {name} has {kind} types that the training data have not, so that no model can predict them: "
        + ", ".join(map(repr, sorted(types)))
        for kind, types in found.items()
        if types
    ]
