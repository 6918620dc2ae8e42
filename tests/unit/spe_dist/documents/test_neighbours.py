"""Neighbours, purity and silhouette by loops over all pairs."""

import numpy as np
import pytest
import torch

from spe_dist.documents import neighbours
from spe_dist.documents.neighbours import (
    nearest_of_others,
    principal_components,
    purity,
    purity_by_chance,
    silhouette,
)

GENERATOR = np.random.default_rng(0)
VECTORS = torch.from_numpy(GENERATOR.normal(size=(60, 5)))
LABELS = GENERATOR.integers(0, 4, 60) * 3
LABELS[7] = 1  # alone
VECTORS += torch.from_numpy(LABELS)[:, None] * torch.tensor([0.3, -0.2, 0, 0, 0])
GROUPS = np.arange(60) % 7


def distance(a: int, b: int) -> float:
    return 1 - float(VECTORS[a] @ VECTORS[b] / (VECTORS[a].norm() * VECTORS[b].norm()))


def others_by_distance(of: int) -> list[int]:
    return sorted((one for one in range(60) if GROUPS[one] != GROUPS[of]), key=lambda one: distance(of, one))


def test_neighbours_are_the_nearest_in_other_groups(monkeypatch) -> None:
    found = nearest_of_others(VECTORS, GROUPS, most=5)
    assert found.tolist() == [others_by_distance(one)[:5] for one in range(60)]
    monkeypatch.setattr(neighbours, "_QUERIES_AT_A_TIME", 8)
    assert np.array_equal(nearest_of_others(VECTORS, GROUPS, most=5), found)
    assert nearest_of_others(VECTORS, GROUPS, most=99).shape == (60, 51)  # a group has up to nine


def test_purity_is_the_share_of_neighbours_with_the_label() -> None:
    equal = [LABELS[other] == LABELS[one] for one in range(60) for other in others_by_distance(one)[:10]]
    assert purity(VECTORS, LABELS, GROUPS, most=10) == pytest.approx(np.mean(equal))
    shares = [np.mean([LABELS[other] == LABELS[one] for other in others_by_distance(one)]) for one in range(60)]
    assert purity_by_chance(LABELS, GROUPS) == pytest.approx(np.mean(shares))


def test_silhouette_as_it_is_defined() -> None:
    values = []
    for one in range(60):
        means = {
            label: np.mean([distance(one, other) for other in range(60) if LABELS[other] == label and other != one])
            for label in set(LABELS.tolist())
            if label != LABELS[one] or (label == LABELS).sum() > 1
        }
        own = means.pop(LABELS[one], None)
        values.append(0.0 if own is None else (min(means.values()) - own) / max(own, min(means.values())))
    assert silhouette(VECTORS, LABELS) == pytest.approx(np.mean(values), abs=1e-9)


def test_silhouette_of_clusters_of_equal_vectors_and_of_one_point_alone() -> None:
    ends = torch.eye(3)[[0, 0, 1, 1]]
    assert silhouette(ends, np.array([5, 5, 2, 2])) == pytest.approx(1)
    assert silhouette(ends, np.array([5, 2, 5, 2])) == pytest.approx(-0.5)
    assert silhouette(ends, np.array([5, 5, 2, 3])) == pytest.approx(0.5)
    assert silhouette(torch.ones(4, 3), np.array([0, 0, 1, 1])) == pytest.approx(0, abs=1e-6)


def test_principal_components_hold_as_much_variance_as_two_dimensions_can() -> None:
    vectors = torch.nn.functional.normalize(VECTORS, dim=1)
    centered = (vectors - vectors.mean(dim=0)).numpy()
    values, axes = np.linalg.eigh(centered.T @ centered)
    found = principal_components(VECTORS).numpy()
    for column, axis in ((0, axes[:, -1]), (1, axes[:, -2])):
        expected = centered @ axis * np.sign(axis[np.abs(axis).argmax()])
        np.testing.assert_allclose(found[:, column], expected, atol=1e-5)
    assert (found**2).sum() == pytest.approx(values[-2:].sum(), rel=1e-5)
