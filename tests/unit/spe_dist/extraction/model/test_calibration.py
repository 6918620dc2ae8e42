"""Scores that mean what they say, and the figures that tell whether they do."""

from itertools import product

import numpy as np
import pytest

from spe_dist.extraction.model.calibration import (
    Scaling,
    calibration_error,
    entity_features,
    ranking_auc,
    relation_features,
)

pytestmark = pytest.mark.any_version


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.0), (0.2, -1.0), (1.0, 0.0), (1.5, 0.7)])
def test_a_known_scaling_is_found_again(scale, shift):
    generator = np.random.default_rng(0)
    logits = generator.normal(2, 3, size=20_000)
    right = generator.random(len(logits)) < sigmoid(scale * logits + shift)
    found = Scaling.fit(entity_features(sigmoid(logits)), right)
    assert (found.weights, found.shift) == ((pytest.approx(scale, rel=0.05),), pytest.approx(shift, abs=0.05))


def test_scores_that_are_all_but_certain_are_brought_down():
    """A model that knows its training data by heart is sure of everything; Newton's whole steps then lead nowhere."""
    generator = np.random.default_rng(1)
    logits = generator.normal(12, 1.5, size=1_000)
    right = generator.random(1_000) < sigmoid(0.8 * (logits - 11))
    features = entity_features(sigmoid(logits))
    scores = Scaling.fit(features, right)(features)
    assert scores.mean() == pytest.approx(right.mean(), abs=0.02)
    assert calibration_error(scores, right) < 0.05
    assert ranking_auc(scores, right) == pytest.approx(ranking_auc(logits, right))


def test_all_that_makes_a_relation_wrong_is_weighed():
    """Each feature on its own ranks worse than all of them."""
    generator = np.random.default_rng(2)
    probabilities, arguments = generator.random(5_000), generator.random((5_000, 2))
    distances, entities = generator.integers(0, 30, size=5_000), generator.integers(2, 9, size=5_000)
    features = relation_features(probabilities, arguments, distances, entities)
    weakest = np.log(arguments.min(axis=1) / (1 - arguments.min(axis=1)))
    by_hand = np.log(probabilities / (1 - probabilities)), weakest, np.log(1 + distances), np.log(entities)
    np.testing.assert_allclose(features, np.stack(by_hand, axis=1))
    true = Scaling(weights=(0.7, 0.4, -0.5, -0.3), shift=1.0)
    right = generator.random(5_000) < true(features)
    found = Scaling.fit(features, right)
    np.testing.assert_allclose((*found.weights, found.shift), (*true.weights, true.shift), atol=0.25)
    alone = [abs(ranking_auc(column, right) - 0.5) for column in features.T]
    assert ranking_auc(found(features), right) - 0.5 > max(alone) + 0.03


def test_without_predictions_scores_stay_as_they_are():
    nothing = np.zeros((0, 1))
    kept = Scaling.fit(nothing, np.zeros(0, dtype=bool))
    assert kept == Scaling(weights=(1.0,), shift=0.0)
    assert kept(entity_features(np.array([0.3, 1.0]))).tolist() == pytest.approx([0.3, 1.0])


def test_the_calibration_error_is_the_mean_distance_of_tenths():
    scores = np.array([0.9] * 10 + [0.2] * 10)
    right = np.array([True] * 8 + [False] * 2 + [True] * 2 + [False] * 8)
    assert calibration_error(scores, right, bins=2) == pytest.approx((0.1 * 10 + 0.0 * 10) / 20)
    assert calibration_error(np.zeros(0), np.zeros(0, dtype=bool)) == 0


def test_the_auc_is_that_of_all_pairs():
    generator = np.random.default_rng(3)
    scores, right = generator.integers(0, 8, size=60) / 8, generator.random(60) < 0.4
    pairs = list(product(scores[right], scores[~right]))
    wins = sum((above > below) + (above == below) / 2 for above, below in pairs)
    assert ranking_auc(scores, right) == pytest.approx(wins / len(pairs))
    assert np.isnan(ranking_auc(scores, np.ones(60, dtype=bool)))
