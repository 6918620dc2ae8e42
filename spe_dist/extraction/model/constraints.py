"""What training data say about entities and relations beside the names of their types; a model keeps it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from spe_dist.config import STRICT, Positive

if TYPE_CHECKING:
    from spe_dist.extraction.model.encoded_sentences import Labels

_OVERLAPPING = 0.01  # share of entities: a few overlaps in a large corpus are annotation errors more often than not

Triple = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Constraints:
    """Limits on what is predicted."""

    max_words: Positive
    """Words of the longest entity."""
    overlapping: bool
    """Whether entities may share words."""
    triples: tuple[Triple, ...] | None
    """Head type, relation type and tail type that occur together; no others are predicted. None: any may be."""

    @classmethod
    def of(cls, sentences: Sequence[AnnotatedSentence], *, types: bool = True) -> Constraints:
        """The constraints that training sentences keep.

        Args:
            sentences: the ones that are learned from.
            types: whether relations are limited to types of arguments that they have there.
        """
        lengths = [entity.word_end - entity.word_start for one in sentences for entity in one.entities]
        overlapping = sum(map(_overlaps, sentences))
        return cls(
            max_words=max(lengths, default=1),
            overlapping=overlapping > _OVERLAPPING * max(len(lengths), 1),
            triples=tuple(sorted(triples_of(sentences))) if types else None,
        )

    def allowed(self, labels: Labels) -> NDArray[np.bool_]:
        """Which relation classes two entities can have by their types: [T, T, 2 R + 1], first entity's type first."""
        from spe_dist.extraction.model.encoded_sentences import FIRST_IS_HEAD, SECOND_IS_HEAD  # spe data: no torch

        types, relations = (
            {name: number for number, name in enumerate(names)}
            for names in (labels.entity_types, labels.relation_types)
        )
        shape = (labels.no_entity, labels.no_entity, labels.no_relation + 1)
        if self.triples is None:
            return np.ones(shape, dtype=np.bool_)
        allowed = np.zeros(shape, dtype=np.bool_)
        allowed[:, :, labels.no_relation] = True
        for head, relation, tail in self.triples:
            allowed[types[head], types[tail], 2 * relations[relation] + FIRST_IS_HEAD] = True
            allowed[types[tail], types[head], 2 * relations[relation] + SECOND_IS_HEAD] = True
        return allowed


def triples_of(sentences: Sequence[AnnotatedSentence]) -> Counter[Triple]:
    """Head type, relation type and tail type of every relation, counted."""
    return Counter(
        (one.entities[relation.head].type, relation.type, one.entities[relation.tail].type)
        for one in sentences
        for relation in one.relations
    )


def _overlaps(sentence: AnnotatedSentence) -> int:
    """How many entities begin before an earlier one has ended; two types of the same words count as one entity."""
    spans = sorted({(entity.word_start, entity.word_end) for entity in sentence.entities})
    ends = np.maximum.accumulate([end for _, end in spans]) if spans else np.zeros(0)
    return sum(start < end for (start, _), end in zip(spans[1:], ends, strict=False))
