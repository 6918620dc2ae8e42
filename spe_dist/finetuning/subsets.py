"""Less data to learn from: fractions of a training set that keep its mix of types."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.errors import UserError

_SUBSET = 4  # keeps these random numbers apart from others of the same seed


def choose_fraction(sentences: Sequence[AnnotatedSentence], fraction: float, seed: int) -> list[int]:
    """Choose a random, stratified part of the sentences.

    A sentence belongs to the stratum of its rarest entity or relation type, or to that of sentences without any. Every
    stratum is shuffled and laid evenly over the interval from 0 to 1; the sentences nearest to 0 are taken. So each
    stratum gives its share to within about one sentence, a type that is the rarest of clearly more than 1 / fraction
    sentences is there, and for one seed a smaller fraction is part of a larger one.

    Args:
        sentences: of a training set.
        fraction: the share to take, more than 0, at most 1.
        seed: another seed takes other sentences.

    Returns:
        Numbers of the sentences, from 0, in rising order: the nearest number of them, but at least one.

    Raises:
        UserError: the fraction is not in range.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"the fraction of the training data must be more than 0 and at most 1, not {fraction:g}")
    if not sentences:
        return []
    order = np.argsort(_places(sentences, seed), kind="stable")
    return sorted(order[: max(1, round(fraction * len(sentences)))].tolist())


def take_fraction(sentences: Sequence[AnnotatedSentence], fraction: float, seed: int) -> list[AnnotatedSentence]:
    """The sentences that `choose_fraction` chooses, in their order."""
    return [sentences[number] for number in choose_fraction(sentences, fraction, seed)]


def _places(sentences: Sequence[AnnotatedSentence], seed: int) -> np.ndarray:
    """A place between 0 and 1 for each sentence, [sentences]: those of a stratum are equally far apart."""
    strata: dict[str, list[int]] = defaultdict(list)
    for number, stratum in enumerate(_rarest_types(sentences)):
        strata[stratum].append(number)
    places = np.empty(len(sentences))
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_SUBSET, seed))))
    for stratum in sorted(strata):
        members = np.array(strata[stratum])
        shuffled = members[np.argsort(generator.random(len(members)))]
        places[shuffled] = (np.arange(len(members)) + generator.random()) / len(members)
    return places


def _rarest_types(sentences: Sequence[AnnotatedSentence]) -> list[str]:
    types = [_types(sentence) for sentence in sentences]
    counts = Counter(type for found in types for type in found)
    return [min(found, key=lambda type: (counts[type], type), default="") for found in types]


def _types(sentence: AnnotatedSentence) -> set[str]:
    # Entities and relations may share names.
    return {f"entity {entity.type}" for entity in sentence.entities} | {
        f"relation {relation.type}" for relation in sentence.relations
    }
