"""Intervals and p-values on simulated data, where the truth is known."""

from itertools import combinations

import numpy as np
import pytest

from spe_dist.finetuning.bootstrap import compare, detectable_difference, estimate, few_seeds_note, holm
from spe_dist.finetuning.measures import micro_f1

pytestmark = pytest.mark.any_version

SENTENCES, SEEDS, RESAMPLES = 200, 5, 300


def simulate_runs(difficulty, generator, *, skill=0.0, sentence_noise=0.0, seed_noise=0.0, run_noise=0.0):
    """Counts [seeds, sentences, 3] of a method.

    Args:
        difficulty: [sentences] that all methods share.
        generator: of all random numbers.
        skill: of the method, in logits.
        sentence_noise: of what makes sentences easier or harder for this method.
        seed_noise: of what makes a seed better or worse on all sentences.
        run_noise: of a seed on a sentence.
    """
    gold = 1 + (np.abs(difficulty) > 0.5)
    own = generator.normal(0, sentence_noise, SENTENCES)
    of_seed = generator.normal(0, seed_noise, (SEEDS, 1))
    logits = 0.3 + skill + difficulty + own + of_seed + generator.normal(0, run_noise, (SEEDS, SENTENCES))
    chance = 1 / (1 + np.exp(-logits))
    correct = generator.binomial(gold, chance)
    wrong = generator.binomial(gold, 0.4 * (1 - chance))
    return np.stack([correct, correct + wrong, np.broadcast_to(gold, correct.shape)], axis=-1)


def p_values(tries, *, paired_seeds, skill=0.0, **noise):
    generator = np.random.default_rng(0)
    values = []
    for number in range(tries):
        difficulty = generator.normal(size=SENTENCES)
        first = simulate_runs(difficulty, generator, **noise)
        second = simulate_runs(difficulty, generator, skill=skill, **noise)
        test = compare(first, second, micro_f1, paired_seeds=paired_seeds, resamples=RESAMPLES, seed=number)
        values.append(test.p_value)
    return np.array(values)


@pytest.mark.parametrize("paired_seeds", [True, False])
@pytest.mark.parametrize(
    "noise",
    [
        {},
        {"run_noise": 0.3, "seed_noise": 0.2},
        {"run_noise": 0.3, "seed_noise": 0.1, "sentence_noise": 0.5},
        {"sentence_noise": 1.0},
    ],
    ids=["of the task only", "of seeds", "of both", "of sentences"],
)
def test_p_values_are_uniform_where_nothing_differs(noise, paired_seeds):
    values = p_values(400, paired_seeds=paired_seeds, **noise)
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        spread = np.sqrt(level * (1 - level) / len(values))  # of the simulation itself
        assert 0.9 * level - 2.5 * spread < (values < level).mean() < 1.1 * level + 2.5 * spread, level


def test_p_values_are_small_where_something_differs():
    noise = {"run_noise": 0.3, "seed_noise": 0.1, "sentence_noise": 0.3}
    assert (p_values(40, paired_seeds=True, skill=0.6, **noise) < 0.05).mean() > 0.9
    assert (p_values(40, paired_seeds=False, skill=0.6, **noise) < 0.05).mean() > 0.9


def test_seeds_are_part_of_the_uncertainty():
    """Two good seeds out of four do not make a method better, however many sentences agree."""
    generator = np.random.default_rng(1)
    difficulty = generator.normal(size=SENTENCES)
    first, second = (simulate_runs(difficulty, generator, seed_noise=noise) for noise in (0.0, 1.0))
    wide, narrow = estimate(second, micro_f1), estimate(first, micro_f1)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_intervals_cover_the_true_mean():
    generator = np.random.default_rng(2)
    noise = {"run_noise": 0.3, "seed_noise": 0.2}
    covered = []
    means = [
        estimate(simulate_runs(generator.normal(size=SENTENCES), generator, **noise), micro_f1, resamples=1).mean
        for _ in range(600)
    ]
    truth = np.mean(means)
    for number in range(200):
        runs = simulate_runs(generator.normal(size=SENTENCES), generator, **noise)
        found = estimate(runs, micro_f1, resamples=RESAMPLES, seed=number)
        covered.append(found.low < truth < found.high)
    assert 0.89 < np.mean(covered) < 0.99


def test_one_seed_agrees_with_resampling_sentence_by_sentence():
    generator = np.random.default_rng(3)
    counts = simulate_runs(generator.normal(size=SENTENCES), generator)[:1]
    slow = []
    for _ in range(4000):
        correct, predicted, gold = counts[0, generator.integers(SENTENCES, size=SENTENCES)].sum(0)
        slow.append(2 * correct / (predicted + gold))
    found = estimate(counts, micro_f1)
    assert found.deviation is None
    assert (found.low, found.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.003)


def test_equal_runs_do_not_differ():
    generator = np.random.default_rng(4)
    runs = simulate_runs(generator.normal(size=SENTENCES), generator)
    test = compare(runs, runs, micro_f1, paired_seeds=True)
    assert test.p_value == 1.0
    assert (test.difference.mean, test.difference.low, test.difference.high) == (0.0, 0.0, 0.0)


def test_turning_the_comparison_round_turns_the_sign():
    generator = np.random.default_rng(5)
    difficulty = generator.normal(size=SENTENCES)
    first, second = (simulate_runs(difficulty, generator, skill=skill, seed_noise=0.1) for skill in (0.0, 0.3))
    there = compare(first, second, micro_f1, paired_seeds=True)
    back = compare(second, first, micro_f1, paired_seeds=True)
    assert there.difference.mean == pytest.approx(-back.difference.mean)
    assert there.difference.low == pytest.approx(-back.difference.high, abs=0.005)
    assert there == compare(first, second, micro_f1, paired_seeds=True)  # the resampling has a seed


def test_more_sentences_than_fit_into_one_piece_and_none_at_all(monkeypatch):
    generator = np.random.default_rng(6)
    counts = simulate_runs(generator.normal(size=SENTENCES), generator)
    whole = estimate(counts, micro_f1)
    monkeypatch.setattr("spe_dist.finetuning.bootstrap._CELLS", 7 * SENTENCES)
    pieces = estimate(counts, micro_f1)
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), abs=0.003)
    empty = estimate(np.zeros((2, 0, 3), dtype=np.int64), micro_f1)
    assert (empty.mean, empty.low, empty.high) == (0.0, 0.0, 0.0)


def test_seeds_may_be_different_ones():
    generator = np.random.default_rng(7)
    difficulty = generator.normal(size=SENTENCES)
    first, second = (simulate_runs(difficulty, generator, skill=skill) for skill in (0.0, 1.0))
    test = compare(first[:3], second, micro_f1, paired_seeds=False)
    assert test.p_value < 0.01 and test.difference.low > 0 and test.difference.deviation is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


def test_holm_is_the_closed_test_of_bonferroni():
    """By definition: a hypothesis is rejected if Bonferroni's test rejects every set of hypotheses that it is in."""
    generator = np.random.default_rng(8)
    for count in (1, 2, 3, 5, 6):
        p = generator.uniform(0, 0.4, count).round(2).tolist()  # with ties
        sets = [one for size in range(1, count + 1) for one in combinations(range(count), size)]
        slow = [max(min(1.0, len(one) * min(p[i] for i in one)) for one in sets if i in one) for i in range(count)]
        assert holm(p) == pytest.approx(slow)


def test_intervals_of_few_seeds_are_not_without_a_word():
    assert "single seed" in few_seeds_note(1) and "one degree of freedom" in few_seeds_note(2)
    assert few_seeds_note(3) == few_seeds_note(5) == ""


def mean_f1(counts):
    return np.mean([2 * correct / (predicted + gold) for correct, predicted, gold in counts.sum(1)])


@pytest.mark.parametrize(
    ("noise", "paired_seeds"),
    [
        ({"run_noise": 0.3, "seed_noise": 0.15}, True),
        ({"run_noise": 0.3, "seed_noise": 0.15}, False),
        ({"sentence_noise": 1.0}, True),
    ],
    ids=["of seeds, paired", "of seeds", "of sentences"],
)
def test_a_detectable_difference_is_detected_in_four_cases_of_five(noise, paired_seeds):
    """On average over what comparisons of runs that do not differ promise."""
    generator = np.random.default_rng(9)

    def pair(skill):
        difficulty = generator.normal(size=SENTENCES)
        return tuple(simulate_runs(difficulty, generator, skill=one, **noise) for one in (0.0, skill))

    def test(skill, number):
        return compare(*pair(skill), micro_f1, paired_seeds=paired_seeds, resamples=RESAMPLES, seed=number)

    promised = np.mean([test(0.0, number).detectable for number in range(120)])
    steps = np.linspace(0, 0.8, 5)  # skill, and how far it takes the F1
    reached = [np.mean([mean_f1(two) - mean_f1(one) for one, two in map(pair, [skill] * 150)]) for skill in steps]
    skill = np.interp(promised, reached, steps)
    assert 0.7 < np.mean([test(skill, number).p_value < 0.05 for number in range(200)]) < 0.9
    if "sentence_noise" not in noise:  # runs that differ in nothing but the noise of their seeds
        alone = np.mean([detectable_difference(run, micro_f1) for _ in range(100) for run in pair(0.0)])
        assert alone == pytest.approx(promised, rel=0.3)


def test_what_can_be_seen_follows_from_the_scatter_of_the_seeds():
    """1,000 sentences of one fact each: F1 = 2 r / (1000 + r) of r right ones that are all that is predicted."""
    right = [600, 620, 640, 660, 680]
    counts = np.zeros((5, 1000, 3), dtype=np.int64)
    counts[:, :, 2] = 1
    for row, number in enumerate(right):
        counts[row, :number, :2] = 1
    f1 = [2 * number / (1000 + number) for number in right]
    by_hand = (2.776 + 0.941) * np.sqrt(2 * np.var(f1, ddof=1) / 5)  # of Student's t with 4 degrees of freedom
    assert detectable_difference(counts, micro_f1) == pytest.approx(by_hand, rel=0.02)
    assert detectable_difference(counts[:1], micro_f1) is None
    assert compare(counts[:1], counts[1:2], micro_f1, paired_seeds=False, resamples=50).detectable is None
