"""How sure a score is, and whether two methods differ: a bootstrap over sentences and seeds.

It is told here of F1s of sentences; items and measures of other tasks take their place (see `measures.py`).

A score of K seeds is the mean of their micro F1s, and two things make it uncertain: other sentences could have been in
the test data, and training could have been started from other seeds. One resample answers "what could this mean, or
this difference of means, have been" with the sum of

- **sentences**: draw as many sentences as there are, with replacement, the same ones for all seeds and both methods;
  add up their counts; take the F1s of these, and their mean over the seeds;
- **seeds**: a draw from Student's t with K − 1 degrees of freedom, times τ / √K. τ² is the variance of the seeds' F1s
  on the sentences as they are, less the part of it that resampling the sentences has brought in already (the variance,
  over resamples, of each seed's F1 around the mean of the seeds), and not less than 0. With one seed there is no such
  term: the result then says nothing about training anew.

The interval is the percentiles of the resamples, cut at what an F1 (0 to 1) or a difference (-1 to 1) can be; the
two-sided p-value is twice the share of the resamples on the less frequent side of zero, with one added above and below:
the smallest that there is, is 2 / (resamples + 1).

If both methods were run with the same seeds, the F1s of equal seeds are subtracted first, and the seeds' term is that
of the K differences: equal seeds may share a subset of the training data or its order, which then cancels out.
Otherwise the seeds of the two methods are drawn independently.

Assumed is that sentences are independent of each other (those of a document are not quite: intervals come out somewhat
narrow), that runs differ by nothing but the seed, that seeds scatter roughly normally, and that there are enough
sentences, some 100, and facts for percentiles to be meaningful; below 50 reports say that they are not. With two seeds
Student's t has one degree of freedom: reports say that such an interval says almost nothing.

Of several p-values some are small by chance. Reports show them raw and corrected (`holm`), with their number.

What difference could be seen (two-sided 0.05, power 0.8): (t₀.₉₇₅ + t₀.₈) · s, s² = e + τ² / K, e the variance of the
resampled means. The quantiles are Student's, of f degrees of freedom (after Satterthwaite): as the seeds alone know,
K − 1 (of the method with fewer), times the square of s² / (v / K), v the variance of the seeds' F1s, if that is more
than 1. Of one run alone, for it and another like it: s² = 2 v / K and f = K − 1. That knows no sentences that only one
of two methods finds hard, so methods that differ much need more. The tests simulate it.

Why not simply resample seeds too: with few seeds it is badly calibrated. The noise that is particular to a seed and a
sentence is then counted three times over. `tests/unit/spe_dist/finetuning/test_bootstrap.py` simulates two methods that
do not differ, and measures how often p < 0.05.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spe_dist.finetuning.measures import Contributions, Measure

RESAMPLES = 10_000
FEW_SENTENCES = 50  # with fewer, neither intervals nor p-values can be relied upon
_LEVEL = 0.95
POWER = 0.8
_DRAWS = 100_000  # of Student's t: its quantiles to some per cent
_MANY, _TINY = 1e6, 1e-12  # degrees of freedom that are as good as normal, and a variance that is none
_CELLS = 2**22  # of the matrix of a batch of resamples: memory


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of two, and how sure it is.

    Args:
        mean: over seeds.
        deviation: of the seeds (n − 1), of their differences if they are paired; None if there are fewer than two.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    mean: float
    deviation: float | None
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """The difference of two methods.

    Args:
        difference: second minus first.
        p_value: two-sided.
        paired_seeds: whether equal seeds were compared with each other.
        detectable: the true difference that this test would see in four cases of five; None with a single seed.
    """

    difference: Estimate
    p_value: float
    paired_seeds: bool
    detectable: float | None


def estimate(contributions: Contributions, measure: Measure, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean of a measure over seeds and its interval.

    Args:
        contributions: [seeds, items, columns]; of an F1 the columns are correct, predicted and gold.
        measure: value of summed contributions, in 0..1.
        resamples: how many.
        seed: seed of the resampling.
    """
    generator = np.random.default_rng(seed)
    values, resampled = measure(contributions.sum(1)), _resampled(contributions, measure, resamples, generator)
    drawn = _mean_over_new_seeds(values, resampled, generator)
    return _estimate(values.mean(), _deviation(values), drawn, lowest=0.0)


def compare(
    first: Contributions,
    second: Contributions,
    measure: Measure,
    *,
    paired_seeds: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedTest:
    """Does the second method differ from the first? The module says what is done.

    Args:
        first: [seeds, items, columns] of one method.
        second: the same of another on the same items.
        measure: value of summed contributions, in 0..1.
        paired_seeds: row i of both was trained with the same seed.
        resamples: how many.
        seed: seed of the resampling.
    """
    generator = np.random.default_rng(seed)
    values = [measure(contributions.sum(1)) for contributions in (first, second)]
    both = _resampled(np.concatenate([first, second]), measure, resamples, generator)  # the same items for both
    resampled = both[:, : len(first)], both[:, len(first) :]
    if paired_seeds:
        differences = values[1] - values[0]
        deviation = _deviation(differences)
        drawn = _mean_over_new_seeds(differences, resampled[1] - resampled[0], generator)
    else:
        deviation = None
        means = [_mean_over_new_seeds(one, draws, generator) for one, draws in zip(values, resampled, strict=True)]
        drawn = means[1] - means[0]
    difference = _estimate(values[1].mean() - values[0].mean(), deviation, drawn, lowest=-1.0)
    detectable = None if min(map(len, values)) < 2 else _detectable_of(values, resampled, paired_seeds=paired_seeds)
    return PairedTest(difference, _two_sided_p(drawn), paired_seeds, detectable)


def detectable_difference(contributions: Contributions, measure: Measure) -> float | None:
    """Smallest difference between two runs like this one that is detectable; None for one seed. See the module.

    Args:
        contributions: [seeds, items, columns].
        measure: value of summed contributions, in 0..1.
    """
    values = measure(contributions.sum(1))
    return _detectable(2 * values.var(ddof=1) / len(values), len(values) - 1) if len(values) > 1 else None


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, 1979): the chance that any of the true nulls is rejected is bounded.

    Args:
        p_values: p-values of all comparisons that are looked at together.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected


def few_seeds_note(seeds: int) -> str:
    """What must stand beside intervals of one or two seeds, a sentence; empty for more."""
    if seeds == 1:
        return "With a single seed, the interval does not include seed-to-seed variance."
    if seeds == 2:
        return (
            "With two seeds, intervals and p-values rest on one degree of freedom and say almost nothing about "
            "other seeds: use at least three seeds, better five."
        )
    return ""


def _resampled(
    contributions: Contributions, measure: Measure, resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Values [resamples, seeds] of items drawn with replacement from contributions [seeds, items, columns]."""
    seeds, items, width = contributions.shape
    columns = contributions.transpose(1, 0, 2).reshape(items, seeds * width).astype(np.float64)
    totals = np.concatenate([times @ columns for times in _times_drawn(items, resamples, generator)])
    return measure(totals.reshape(resamples, seeds, width))


def _times_drawn(sentences: int, resamples: int, generator: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """How often each resample has drawn each sentence, in pieces [some resamples, sentences]."""
    at_once = max(1, _CELLS // max(1, sentences))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = generator.integers(max(1, sentences), size=(rows, sentences))
        cells = (drawn + np.arange(rows)[:, None] * sentences).ravel()
        yield np.bincount(cells, minlength=rows * sentences).reshape(rows, sentences).astype(np.float64)


def _mean_over_new_seeds(
    values: NDArray[np.float64], resampled: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Means [resamples] that other sentences and other seeds could have given.

    Args:
        values: [seeds] as measured.
        resampled: [resamples, seeds] on resampled sentences.
        generator: draws what other seeds would have changed.
    """
    means = resampled.mean(1)
    seeds = len(values)
    if seeds < 2:
        return means
    return means + generator.standard_t(seeds - 1, size=len(means)) * np.sqrt(_seed_variance(values, resampled))


def _seed_variance(values: NDArray[np.float64], resampled: NDArray[np.float64]) -> float:
    """τ² / K: the variance of the mean that is due to seeds, and not to sentences; 0 of a single seed."""
    seeds = len(values)
    if seeds < 2:
        return 0.0
    from_sentences = ((resampled - resampled.mean(1)[:, None]).var(0)).sum() / (seeds - 1)
    return max(0.0, float(values.var(ddof=1) - from_sentences)) / seeds


def _estimate(mean: float, deviation: float | None, drawn: NDArray[np.float64], *, lowest: float) -> Estimate:
    # The term of the seeds is a normal one, and knows no bounds.
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]).clip(lowest, 1.0)
    return Estimate(float(mean), deviation, float(low), float(high))


def _deviation(values: NDArray[np.float64]) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _detectable_of(
    values: Sequence[NDArray[np.float64]], resampled: Sequence[NDArray[np.float64]], *, paired_seeds: bool
) -> float:
    """What a comparison could see.

    Args:
        values: [seeds] of each method.
        resampled: [resamples, seeds] of each.
        paired_seeds: as in `compare`.
    """
    parts = list(zip(values, resampled, strict=True))
    if paired_seeds:
        parts = [(values[1] - values[0], resampled[1] - resampled[0])]
    from_sentences = float((resampled[1].mean(1) - resampled[0].mean(1)).var())
    variance = from_sentences + sum(_seed_variance(*part) for part in parts)
    of_seeds = sum(float(one.var(ddof=1)) / len(one) for one, _ in parts)
    freedom = min(len(one) - 1 for one, _ in parts) * max(1.0, variance / max(of_seeds, _TINY)) ** 2
    return _detectable(variance, min(freedom, _MANY))


def _detectable(variance: float, freedom: float) -> float:
    draws = np.random.default_rng(0).standard_t(freedom, size=_DRAWS)
    return float(np.quantile(draws, [(1 + _LEVEL) / 2, POWER]).sum() * np.sqrt(variance))


def _two_sided_p(differences: NDArray[np.float64]) -> float:
    """Twice the smaller share of draws that are not above, or not below, 0."""
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))
