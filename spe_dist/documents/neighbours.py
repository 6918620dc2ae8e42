"""How vectors with labels lie: the nearest of each, and whether equal labels lie together; all by cosine."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_QUERIES_AT_A_TIME = 1024
_NO_DISTANCE = 1e-9  # what rounding makes of equal vectors is less


def nearest_of_others(vectors: Tensor, groups: NDArray[np.int64], *, most: int) -> NDArray[np.int64]:
    """The nearest vectors, by cosine, that are in another group, nearest first, [N, at most `most`].

    Args:
        vectors: [N, size].
        groups: of each, [N]; at least two differ.
        most: of each; fewer where other groups hold fewer.
    """
    vectors, of = nn.functional.normalize(vectors.float(), dim=1), torch.from_numpy(groups)
    most = min(most, len(groups) - int(np.unique(groups, return_counts=True)[1].max()))
    found = []
    for queries in torch.arange(len(vectors)).split(_QUERIES_AT_A_TIME):
        similarity = vectors[queries] @ vectors.T
        similarity.masked_fill_(of[queries, None] == of, float("-inf"))
        found.append(similarity.topk(most, dim=1).indices)
    return torch.cat(found).numpy()


def purity(vectors: Tensor, labels: NDArray[np.int64], groups: NDArray[np.int64], *, most: int) -> float:
    """Share of the nearest vectors in other groups that have the label of the vector they are nearest to.

    Args:
        vectors: [N, size].
        labels: of each, [N].
        groups: of each, [N], such as its document; at least two differ.
        most: neighbours of each.
    """
    return float((labels[nearest_of_others(vectors, groups, most=most)] == labels[:, None]).mean())


def purity_by_chance(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> float:
    """The purity of neighbours that are drawn at random from other groups."""
    both = np.unique(np.stack([labels, groups]), axis=1, return_inverse=True)[1].reshape(-1)
    of_label, of_group, of_both = (np.bincount(numbers)[numbers] for numbers in (labels, groups, both))
    return float(((of_label - of_both) / (len(labels) - of_group)).mean())


def silhouette(vectors: Tensor, labels: NDArray[np.int64]) -> float:
    """Mean of (b - a) / max(a, b), from -1 to 1 (Rousseeuw 1987), for cosine distances.

    a is a vector's mean distance to the others of its label, b its least mean distance to those of another label. A
    vector that is alone with its label counts 0.

    Args:
        vectors: [N, size].
        labels: of each, [N]; at least two differ.
    """
    vectors = nn.functional.normalize(vectors.double(), dim=1)
    of = torch.from_numpy(np.unique(labels, return_inverse=True)[1])
    sums = torch.zeros(int(of.max()) + 1, vectors.shape[1], dtype=vectors.dtype).index_add_(0, of, vectors)
    counts = of.bincount()
    distances = counts - vectors @ sums.T  # to all of each label, [N, labels]; 0 to itself
    others = (counts[of] - 1).clamp(min=1)
    a = distances.gather(1, of[:, None])[:, 0] / others
    b = (distances / counts).scatter(1, of[:, None], torch.inf).amin(dim=1)
    values = (b - a) / torch.maximum(a, b).clamp(min=_NO_DISTANCE)
    return float(values.where(counts[of] > 1, 0).mean())


def principal_components(vectors: Tensor) -> Tensor:
    """The first two principal components of vectors of length 1, [N, 2]; the largest weight of each is positive."""
    vectors = nn.functional.normalize(vectors.double(), dim=1)
    axes = torch.linalg.svd(vectors - vectors.mean(dim=0), full_matrices=False).Vh[:2]
    signs = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    return ((vectors - vectors.mean(dim=0)) @ (axes * signs).T).float()
