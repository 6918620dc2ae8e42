"""Less data to learn from: fractions of a training set that keep its mix of labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from math import ceil

import numpy as np

from data_shards.errors import UserError

_SUBSET = 4  # keeps these random numbers apart from others of the same seed
_ROUNDING = 1e-9  # 100 · 0.07 is more than 7


def choose_fraction(labels: Sequence[Collection[str]], fraction: float, seed: int) -> list[int]:
    """Choose a random, stratified part of a training set.

    An item belongs to the stratum of its rarest label, or to that of items without any. Every stratum is shuffled and
    laid evenly over the interval from 0 to 1; the items nearest to 0 are taken. So each stratum gives its share to
    within about one item, a label that is the rarest of clearly more than 1 / fraction items is there, and for one seed
    a smaller fraction is part of a larger one.

    Args:
        labels: labels of each item; of a sentence, the types of its entities and relations.
        fraction: the share to take, more than 0, at most 1.
        seed: another seed takes other items.

    Returns:
        Numbers of the items, from 0, in rising order: the nearest number of them, but at least one.

    Raises:
        UserError: the fraction is not in range.
    """
    _check_fraction(fraction)
    if not labels:
        return []
    order = np.argsort(_places(labels, seed), kind="stable")
    return sorted(order[: max(1, round(fraction * len(labels)))].tolist())


def choose_of_each_label(labels: Sequence[str], fraction: float, seed: int) -> list[int]:
    """Choose ⌈n · fraction⌉ of the n items of each label; for one seed a smaller fraction is part of a larger one.

    Args:
        labels: one of each item.
        fraction: the share to take, more than 0, at most 1.
        seed: another seed takes other items.

    Returns:
        Numbers of the items, from 0, in rising order.

    Raises:
        UserError: the fraction is not in range.
    """
    _check_fraction(fraction)
    members: dict[str, list[int]] = defaultdict(list)
    for number in np.argsort(_places([(label,) for label in labels], seed), kind="stable").tolist():
        members[labels[number]].append(number)
    return sorted(n for of_label in members.values() for n in of_label[: ceil(len(of_label) * fraction - _ROUNDING)])


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise UserError(f"the fraction of the training data must be more than 0 and at most 1, not {fraction:g}")


def _places(labels: Sequence[Collection[str]], seed: int) -> np.ndarray:
    """A place between 0 and 1 for each item, [items]: those of a stratum are equally far apart."""
    counts = Counter(label for found in labels for label in set(found))
    strata: dict[str, list[int]] = defaultdict(list)
    for number, found in enumerate(labels):
        strata[min(found, key=lambda label: (counts[label], label), default="")].append(number)
    places = np.empty(len(labels))
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_SUBSET, seed))))
    for stratum in sorted(strata):
        members = np.array(strata[stratum])
        shuffled = members[np.argsort(generator.random(len(members)))]
        places[shuffled] = (np.arange(len(members)) + generator.random()) / len(members)
    return places
