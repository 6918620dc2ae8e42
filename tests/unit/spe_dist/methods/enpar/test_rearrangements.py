import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

from spe_dist.methods.enpar.rearrangements import PERTURBATIONS, permute, perturb
from tests.unit.spe_dist.batches.entity_sentences import random_entities
from tests.unit.spe_dist.batches.sentences import flat, random_sentences, records_of, sentences_of

pytestmark = pytest.mark.any_version

ORDERS = list(itertools.permutations(range(5)))


def pairs_of(sentences, *, seed):
    """The two first entities of each sentence: boundaries of five spans."""
    drawn = random_entities(sentences, seed=seed)
    return np.array(
        [[0, *first[:2], *second[:2], len(s)] for s, (first, second, *_) in zip(sentences, drawn, strict=True)]
    )


def perturbed_by_hand(sentence, boundaries, kind, most):
    """Words one after another, each entity as one block that moves a word at a time; and where the entities stand."""
    _, a, b, c, d, _ = boundaries
    first, second = ("first", sentence[a:b]), ("second", sentence[c:d])
    left, middle, right = ([("word", [word]) for word in part] for part in (sentence[:a], sentence[b:c], sentence[d:]))
    items = [*left, first, *middle, second, *right]
    if kind == "swap":
        items = [*left, second, *middle, first, *right]
    else:
        name, direction = kind.split("_")
        step = -1 if direction == "left" else 1
        for _ in range(most):
            place = next(i for i, item in enumerate(items) if item[0] == name)
            neighbour = place + step
            if not (0 <= neighbour < len(items)) or items[neighbour][0] != "word":
                break
            items[place], items[neighbour] = items[neighbour], items[place]
    return spelled_out(items)


def spelled_out(items):
    words, places = [], []
    for name, block in items:
        if name != "word":
            places.append((len(words), len(words) + len(block)))
        words += block
    return words, [0, *places[0], *places[1], len(words)]


@pytest.mark.parametrize("most", [1, 5])
def test_perturbed_copies_are_what_an_oracle_of_lists_makes(most):
    sentences = random_sentences(3000, seed=1, least=3, vocabulary=40)
    boundaries = pairs_of(sentences, seed=2)
    uniforms = np.random.default_rng(3).random((len(sentences), 5))
    copies, records = perturb(records_of(sentences), boundaries, uniforms, copies=5, max_shift=most)
    made = defaultdict(dict)
    for row, kind, places, text in zip(
        copies.records.tolist(),
        copies.kinds.tolist(),
        copies.word_boundaries.tolist(),
        sentences_of(records),
        strict=True,
    ):
        made[row][PERTURBATIONS[kind]] = (text, places)
    for row, sentence in enumerate(sentences):
        by_hand = {kind: perturbed_by_hand(sentence, boundaries[row].tolist(), kind, most) for kind in PERTURBATIONS}
        assert made[row] == {kind: found for kind, found in by_hand.items() if flat(found[0]) != flat(sentence)}
    assert np.all(np.diff(copies.records) >= 0)


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_so_many_perturbations_are_drawn_each_with_the_same_chance(copies):
    sentences = random_sentences(8000, seed=4, least=12, vocabulary=400)
    boundaries = np.array([[0, 2, 4, 7, 8, len(sentence)] for sentence in sentences])  # room on every side
    uniforms = np.random.default_rng(5).random((len(sentences), 5))
    drawn, _ = perturb(records_of(sentences), boundaries, uniforms, copies=copies, max_shift=2)
    assert set(Counter(drawn.records.tolist()).values()) <= {copies}
    assert len(set(zip(drawn.records.tolist(), drawn.kinds.tolist(), strict=True))) == len(drawn.records)
    expected = copies * len(sentences) / 5
    assert all(abs(count - expected) < 5 * expected**0.5 for count in Counter(drawn.kinds.tolist()).values())


def permuted_by_hand(sentence, boundaries, order):
    parts = [sentence[a:b] for a, b in itertools.pairwise(boundaries)]
    items = []
    for part in order:
        items += [("entity", parts[part])] if part in (1, 3) else [("word", [word]) for word in parts[part]]
    return spelled_out(items)


def test_permuted_copies_are_what_an_oracle_of_lists_makes_and_their_class_can_be_told():
    sentences = random_sentences(2000, seed=6, least=3, longest=12, vocabulary=3)
    boundaries = pairs_of(sentences, seed=7)
    uniforms = np.random.default_rng(8).random((len(sentences), 120))
    copies, records = permute(records_of(sentences), boundaries, uniforms, copies=119)
    made = defaultdict(dict)
    for row, kind, places, text in zip(
        copies.records.tolist(),
        copies.kinds.tolist(),
        copies.word_boundaries.tolist(),
        sentences_of(records),
        strict=True,
    ):
        made[row][kind] = (text, places)
    for row, sentence in enumerate(sentences):
        by_hand = [permuted_by_hand(sentence, boundaries[row].tolist(), order) for order in ORDERS]
        texts = [flat(text) for text, _ in by_hand]
        allowed = [number for number in range(1, 120) if texts[number] not in texts[:number]]
        assert made[row] == {number: by_hand[number] for number in allowed}


def test_four_permutations_are_drawn_and_all_classes_have_the_same_chance():
    sentences = random_sentences(12_000, seed=9, least=10, longest=12, vocabulary=60_000)
    boundaries = np.array([[0, 2, 3, 5, 7, len(sentence)] for sentence in sentences])
    uniforms = np.random.default_rng(10).random((len(sentences), 120))
    copies, _ = permute(records_of(sentences), boundaries, uniforms, copies=4)
    assert set(Counter(copies.records.tolist()).values()) == {4}
    counts = Counter(copies.kinds.tolist())
    expected = 4 * len(sentences) / 119
    assert set(counts) == set(range(1, 120))
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 118 + 5 * (2 * 118) ** 0.5


def test_no_sentences_give_no_copies():
    nothing = records_of([])
    boundaries = np.zeros((0, 6), dtype=np.int64)
    for copies, records in (
        perturb(nothing, boundaries, np.zeros((0, 5)), copies=5, max_shift=5),
        permute(nothing, boundaries, np.zeros((0, 120)), copies=4),
    ):
        assert len(copies.records) == len(records) == 0
