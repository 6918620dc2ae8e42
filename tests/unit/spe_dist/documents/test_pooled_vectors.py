"""Means of means, by loops over one text at a time."""

import random

import numpy as np
import pytest
import torch

from spe_dist.documents import pooled_vectors
from spe_dist.documents.pooled_vectors import PooledForwards, PooledPieces, PooledText
from tests.unit.spe_dist.documents.tiny_documents import states_alone, tiny_encoder, word_pieces

ENCODER = tiny_encoder()
SPECIAL = word_pieces().special_ids


def random_text(chance: random.Random) -> PooledText:
    ids = np.array([chance.randrange(10, 900) for _ in range(chance.randint(1, 40))])
    size = chance.randint(0, 4)
    rows = []
    for vector in range(size):
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(ids))
            rows.append((vector, start, chance.randint(start + 1, len(ids))))
    prefix = np.array([chance.randrange(10, 900) for _ in range(chance.choice([0, 0, 3]))], dtype=np.int64)
    return PooledText(ids, np.array(rows, dtype=np.int64).reshape(-1, 3), size, prefix)


def expected(text: PooledText, encoder=ENCODER) -> torch.Tensor:
    ids = [SPECIAL.cls, *text.prefix.tolist(), *text.piece_ids.tolist(), SPECIAL.sep]
    states = states_alone(encoder, ids)[1 + len(text.prefix) :]
    vectors = [
        torch.stack([states[a:b].mean(dim=0) for v, a, b in text.mentions.tolist() if v == vector]).mean(dim=0)
        for vector in range(text.size)
    ]
    return torch.stack(vectors) if vectors else torch.zeros(0, 16)


@pytest.mark.parametrize("at_a_time", [4096, 50, 1])
def test_vectors_are_means_of_mentions_and_these_of_pieces(at_a_time, monkeypatch) -> None:
    monkeypatch.setattr(pooled_vectors, "_PIECES_AT_A_TIME", at_a_time)
    chance = random.Random(at_a_time)
    texts = [random_text(chance) for _ in range(20)]
    forwards = PooledForwards.pack(texts, SPECIAL)
    assert (len(forwards.forwards) == 1) == (at_a_time == 4096)
    with torch.no_grad():
        found = forwards.vectors(ENCODER)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.cat([expected(text) for text in texts]), atol=1e-5, rtol=1e-5)


def test_vectors_of_an_encoder_in_bf16_are_near_those_in_fp32() -> None:
    texts = [random_text(random.Random(seed)) for seed in range(8)]
    forwards = PooledForwards.pack(texts, SPECIAL)
    with torch.no_grad():
        found, exact = forwards.vectors(tiny_encoder().bfloat16()), forwards.vectors(ENCODER)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.15, rtol=0)


def test_nothing_to_pool() -> None:
    assert PooledForwards.pack([], SPECIAL).vectors(ENCODER).shape == (0, 16)
    empty = PooledText(np.array([20, 21]), np.zeros((0, 3), dtype=np.int64), 0)
    assert PooledForwards.pack([empty], SPECIAL).vectors(ENCODER).shape == (0, 16)


def test_a_gradient_reaches_each_piece_with_its_weight() -> None:
    pooled = PooledPieces.of_mentions(np.array([[0, 2], [3, 4], [1, 2]]), np.array([0, 0, 1]), 3)
    states = torch.randn(5, 2, requires_grad=True)
    means = pooled.means(states)
    assert means[2].tolist() == [0, 0]  # without mentions
    means[0].sum().backward()
    assert states.grad[:, 0].tolist() == [0.25, 0.25, 0, 0.5, 0]
