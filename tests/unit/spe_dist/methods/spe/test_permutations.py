from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from spe_dist.methods.spe.permutations import permute_spans, random_columns
from tests.unit.spe_dist.batches.sentences import (
    excess,
    flat,
    random_boundaries,
    random_sentences,
    records_of,
    sentences_of,
    texts_of_classes,
)

pytestmark = pytest.mark.any_version


def permute(sentences, boundaries, *, max_spans=2, seed=0):
    uniforms = np.random.default_rng(seed).random((len(sentences), random_columns(max_spans)))
    records, permuted = permute_spans(records_of(sentences), boundaries, uniforms, max_spans=max_spans)
    drawn = zip(permuted.records.tolist(), permuted.spans.tolist(), permuted.classes.tolist(), strict=True)
    return sentences_of(records), list(drawn)


def allowed_classes(words):
    """Classes that no class of a smaller number gives too."""
    texts = [flat(text) for text in texts_of_classes(words)]
    return [number for number, text in enumerate(texts) if text not in texts[:number]]


@pytest.mark.parametrize("max_spans", [1, 2, 5])
def test_sentences_are_permuted_as_an_oracle_of_lists_says(max_spans):
    before = random_sentences(3000, seed=1)
    boundaries = random_boundaries(before, seed=2)
    after, drawn = permute(before, boundaries, max_spans=max_spans)
    expected = [list(sentence) for sentence in before]
    for record, span, number in drawn:
        start, end = boundaries[record, span], boundaries[record, span + 1]
        expected[record][start:end] = texts_of_classes(before[record][start:end])[number]
    assert after == expected  # whole words, cut where they were cut; all other words untouched


@pytest.mark.parametrize("max_spans", [1, 2, 5])
def test_at_most_so_many_spans_of_three_or_more_words_are_permuted(max_spans):
    sentences = random_sentences(3000, seed=3)
    boundaries = random_boundaries(sentences, seed=4)
    _, drawn = permute(sentences, boundaries, max_spans=max_spans)
    assert len({(record, span) for record, span, _ in drawn}) == len(drawn)
    assert all(boundaries[record, span + 1] - boundaries[record, span] >= 3 for record, span, _ in drawn)
    permuted = Counter(record for record, _, _ in drawn)
    for record, row in enumerate(boundaries):
        candidates = sum(end - start >= 3 for start, end in pairwise(row))
        assert permuted[record] == min(max_spans, candidates)


def test_a_class_whose_text_a_smaller_class_gives_is_never_drawn_and_the_others_are_uniform():
    sentences = random_sentences(20_000, seed=5, least=3, longest=7, vocabulary=2)
    boundaries = np.array([[0, 0, 0, 0, 0, len(sentence)] for sentence in sentences])
    _, drawn = permute(sentences, boundaries)
    counts = defaultdict(Counter)
    for record, _, number in drawn:
        counts[tuple(allowed_classes(sentences[record]))][number] += 1
    assert len(counts) > 5  # the sentences hold many kinds of coincidence
    for allowed, classes in counts.items():
        assert classes.keys() <= set(allowed)
        total = classes.total()
        if len(allowed) > 1 and total > 200:
            assert excess([classes[number] for number in allowed], [total / len(allowed)] * len(allowed)) < 4


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        ([[4], [5], [6]], [0, 1, 2, 3, 4, 5]),
        ([[4], [5], [4]], [0, 1, 2]),  # first and last are equal: 5 is 0, 3 is 1, 4 is 2
        ([[4], [4], [4]], [0]),
        ([[4], [4, 4], [4, 4, 4]], [0]),  # different words, but the model sees pieces
        ([[4, 5], [4], [5]], [0, 1, 2, 4, 5]),  # class 3, [4][5][4 5], reads as class 0 does
    ],
)
def test_classes_that_can_be_drawn(words, classes):
    assert allowed_classes(words) == classes
    _, drawn = permute([words] * 400, np.array([[0, 0, 0, 0, 0, len(words)]] * 400))
    assert sorted({number for _, _, number in drawn}) == classes


def test_classes_are_numbered_as_itertools_lists_permutations():
    words = [[4], [5], [6], [7]]
    after, drawn = permute([words] * 300, np.array([[0, 0, 0, 0, 0, 4]] * 300))
    texts = {number: flat(after[record]) for record, _, number in drawn}
    assert texts == {
        0: [4, 5, 6, 7], 1: [4, 7, 5, 6], 2: [5, 6, 4, 7], 3: [5, 6, 7, 4], 4: [7, 4, 5, 6], 5: [7, 5, 6, 4]
    }  # fmt: skip


def test_each_candidate_span_is_equally_likely_to_be_permuted():
    sentences = [[[4 + i] for i in range(15)]] * 10_000
    _, drawn = permute(sentences, np.array([[0, 3, 6, 9, 12, 15]] * 10_000))
    counts = Counter(span for _, span, _ in drawn)
    assert excess([counts[span] for span in range(5)], [4000] * 5) < 4


def test_nothing_is_permuted_when_nothing_is_asked_for():
    sentences = random_sentences(50, seed=6)
    after, drawn = permute(sentences, random_boundaries(sentences, seed=7), max_spans=0)
    assert (after, drawn) == (sentences, [])


def test_no_sentences():
    assert permute([], np.zeros((0, 6), dtype=np.int64)) == ([], [])
