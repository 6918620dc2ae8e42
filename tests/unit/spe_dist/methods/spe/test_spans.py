from collections import Counter

import numpy as np
import pytest

from spe_dist.methods.spe.spans import COLUMNS, sample_span_pairs
from tests.unit.spe_dist.batches.sentences import excess

pytestmark = pytest.mark.any_version

P, LONGEST = 0.2, 10
MASS = [P * (1 - P) ** (k - 1) for k in range(1, LONGEST + 1)]
LENGTH_PROBABILITIES = [mass / sum(MASS) for mass in MASS]
ALMOST_ONE = np.nextafter(1.0, 0.0)


def draw(num_words, uniforms):
    return sample_span_pairs(np.asarray(num_words), np.asarray(uniforms), geometric_p=P, max_words=LONGEST)


def draw_many(num_words, count, *, seed=0):
    return draw(np.full(count, num_words), np.random.default_rng(seed).random((count, COLUMNS)))


def every_pair(num_words):
    """Probability of each (first start, first end, second start, second end)."""
    chances = {}
    for first in range(1, LONGEST + 1):
        for second in range(1, LONGEST + 1):
            places = [
                (a, a + first, c, c + second)
                for a in range(num_words)
                for c in range(a + first, num_words)
                if c + second <= num_words
            ]
            for place in places:
                chances[place] = LENGTH_PROBABILITIES[first - 1] * LENGTH_PROBABILITIES[second - 1] / len(places)
    total = sum(chances.values())
    return {place: chance / total for place, chance in chances.items()}


def test_spans_of_a_pair_lie_in_the_sentence_and_never_overlap():
    num_words = np.random.default_rng(1).integers(2, 60, size=20_000)
    for n, (zero, a, b, c, d, end) in zip(
        num_words.tolist(), draw(num_words, np.random.default_rng(2).random((20_000, COLUMNS))).tolist(), strict=True
    ):
        assert zero == 0 <= a < b <= c < d <= end == n
        assert b - a <= LONGEST
        assert d - c <= LONGEST


@pytest.mark.parametrize("columns", list(np.ndindex(2, 2, 2)))
def test_the_smallest_and_largest_random_numbers_give_possible_pairs(columns):
    num_words = np.arange(2, 200)
    extremes = np.tile(np.array([0.0, ALMOST_ONE])[list(columns)], (len(num_words), 1))
    for n, (_, a, b, c, d, _) in zip(num_words.tolist(), draw(num_words, extremes).tolist(), strict=True):
        assert 0 <= a < b <= c < d <= n


def test_lengths_are_independent_draws_of_the_truncated_geometric_distribution():
    boundaries = draw_many(60, 200_000)
    first, second = boundaries[:, 2] - boundaries[:, 1], boundaries[:, 4] - boundaries[:, 3]
    counts = Counter(zip(first.tolist(), second.tolist(), strict=True))
    cells = [(i, j) for i in range(1, 11) for j in range(1, 11)]
    expected = [200_000 * LENGTH_PROBABILITIES[i - 1] * LENGTH_PROBABILITIES[j - 1] for i, j in cells]
    assert sum(counts.values()) == sum(counts[cell] for cell in cells)
    assert excess([counts[cell] for cell in cells], expected) < 4
    assert abs((first.mean() + second.mean()) / 2 - 3.797) < 0.01  # the mean the paper's settings give


@pytest.mark.parametrize("num_words", [2, 3, 5, 8, 19])
def test_a_short_sentence_takes_the_pairs_that_fit_in_proportion(num_words):
    chances = every_pair(num_words)
    counts = Counter(map(tuple, draw_many(num_words, 100_000)[:, 1:5].tolist()))
    assert counts.keys() <= chances.keys()
    common = [place for place, chance in chances.items() if chance > 1e-4]
    if len(common) > 1:
        assert excess([counts[place] for place in common], [100_000 * chances[place] for place in common]) < 4


def test_given_the_lengths_every_placement_in_five_words_is_equally_likely():
    grid = (np.arange(60) + 0.5) / 60  # 60 can be divided by every number of places there is
    bars = np.array([(u, v) for u in grid for v in grid])
    placements = {}
    for u in np.linspace(0, ALMOST_ONE, 40):
        drawn = draw(np.full(3600, 5), np.column_stack([np.full(3600, u), bars]))[:, 1:5].tolist()
        counts = Counter(map(tuple, drawn))
        lengths = {(b - a, d - c) for a, b, c, d in counts}
        assert len(lengths) == len(set(counts.values())) == 1  # one pair of lengths, all counts equal
        placements[lengths.pop()] = set(counts)
    assert set().union(*placements.values()) == set(every_pair(5))


def test_the_two_spans_are_alike():
    boundaries = draw_many(12, 100_000)
    first, second = boundaries[:, 2] - boundaries[:, 1], boundaries[:, 4] - boundaries[:, 3]
    left, middle, right = boundaries[:, 1], boundaries[:, 3] - boundaries[:, 2], 12 - boundaries[:, 4]
    assert abs(first.mean() - second.mean()) < 0.05
    assert max(left.mean(), middle.mean(), right.mean()) - min(left.mean(), middle.mean(), right.mean()) < 0.05


def test_no_sentences_give_no_spans():
    assert draw(np.zeros(0, dtype=int), np.zeros((0, COLUMNS))).shape == (0, 6)
