"""From scores of pairs to relations: the threshold at which the F1 of dev is highest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spe_dist.document_relations.graph import DocumentGraph

_MOST_PER_FACT = 10  # predictions that are looked at: with more, F1 is below 2 / 11


def best_threshold(gold: Sequence[DocumentGraph], predicted: Sequence[DocumentGraph]) -> float:
    """The score θ at which the micro F1 of all predictions with a score ≥ θ is highest; of equal ones the highest θ.

    Only the ten times as many highest scores as there are gold facts are looked at: a model that knows nothing yet
    would have its highest F1 where it predicts every relation of every pair.

    Args:
        gold: true graphs, in the order of the predicted ones.
        predicted: with scores.
    """
    facts = sum(len(one.edges) for one in gold)
    parts, right_parts = [np.zeros(0, dtype=np.float32)], [np.zeros(0, dtype=bool)]
    for truth, found in zip(gold, predicted, strict=True):
        assert found.scores is not None
        numbers = {name: number for number, name in enumerate(found.scores.relations)}
        rows = {pair: row for row, pair in enumerate(map(tuple, found.scores.pairs.tolist()))}
        right = np.zeros(found.scores.scores.shape, dtype=bool)
        for edge in truth.edges:
            if edge.type in numbers and (edge.head, edge.tail) in rows:
                right[rows[edge.head, edge.tail], numbers[edge.type]] = True
        parts.append(found.scores.scores.ravel())
        right_parts.append(right.ravel())
    scores, is_right = np.concatenate(parts), np.concatenate(right_parts)
    if not len(scores):
        return 1.0
    most = max(1, _MOST_PER_FACT * facts)
    if len(scores) > most:
        lowest = np.partition(scores, len(scores) - most)[len(scores) - most]
        kept = scores >= lowest  # with all that are equal to the lowest
        scores, is_right = scores[kept], is_right[kept]
    order = np.argsort(-scores, kind="stable")
    scores, correct = scores[order], np.cumsum(is_right[order])
    f1 = 2 * correct / (np.arange(1, len(scores) + 1) + facts)
    f1[:-1][scores[:-1] == scores[1:]] = -1  # equal scores are predicted together
    return float(scores[int(f1.argmax())])
