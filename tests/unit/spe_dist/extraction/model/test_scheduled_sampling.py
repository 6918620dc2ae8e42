import math

import numpy as np
import pytest

from spe_dist.extraction.model.scheduled_sampling import draw_gold, gold_probability


def test_the_papers_schedule():
    """k = 3, gold alone up to epoch 5, as the released program computes it."""
    probabilities = {epoch: gold_probability(epoch, gold_epochs=5, k=3.0) for epoch in range(30)}
    assert all(probabilities[epoch] == 1 for epoch in range(6))
    for epoch, expected in {6: 0.68, 8: 0.52, 10: 0.36, 14: 0.13, 20: 0.02}.items():
        assert probabilities[epoch] == pytest.approx(expected, abs=0.005)
    assert probabilities[9] == 3 / (3 + math.exp(4 / 3))
    assert gold_probability(100_000, gold_epochs=5, k=3.0) == 0


def test_draws_have_the_probability_and_are_independent():
    draws = draw_gold(20_000, 10, seed=1, gold_epochs=5, k=3.0)
    wanted = gold_probability(10, gold_epochs=5, k=3.0)
    assert abs(draws.spans.mean() - wanted) < 0.015
    assert abs(draws.entities.mean() - wanted) < 0.015
    assert abs((draws.spans & draws.entities).mean() - wanted**2) < 0.015


def test_a_sentence_has_its_draw_whatever_its_batch():
    draws, again = (draw_gold(50, 8, seed=1, gold_epochs=5, k=3.0) for _ in range(2))
    rows = np.array([7, 3])
    assert again.take(rows).spans.tolist() == draws.spans[rows].tolist()
    assert again.take(rows).entities.tolist() == draws.entities[rows].tolist()
    for other in (draw_gold(50, 9, seed=1, gold_epochs=8, k=3.0), draw_gold(50, 8, seed=2, gold_epochs=5, k=3.0)):
        assert other.spans.tolist() != draws.spans.tolist()
