import math

import pytest
import torch
from torch import nn

from spe_dist.models.entity_pair_encoder import EntityPairEncoder
from spe_dist.models.span_pair_encoder import SpanPairEncoder


def build(dropout=0.0):
    torch.manual_seed(0)
    encoder = EntityPairEncoder(4, 3, 5, dropout=dropout)
    nn.init.normal_(encoder.block.linear.weight)
    nn.init.normal_(encoder.block.linear.bias)
    return encoder


def test_it_is_a_block_over_left_first_middle_second_right():
    encoder = build()
    entities, contexts = torch.randn(6, 2, 4), torch.randn(6, 3, 3)
    empty = torch.rand(6, 3) < 0.5
    vectors = encoder(entities, contexts, empty)
    weight, bias = encoder.block.linear.weight.tolist(), encoder.block.linear.bias.tolist()
    for row in range(6):
        left, middle, right = ([0.0] * 3 if empty[row, i] else contexts[row, i].tolist() for i in range(3))
        first, second = entities[row].tolist()
        joined = [*left, *first, *middle, *second, *right]
        inner = [
            0.5 * z * (1 + math.erf(z / 2**0.5))
            for z in (
                sum(w * x for w, x in zip(ws, joined, strict=True)) + b for ws, b in zip(weight, bias, strict=True)
            )
        ]
        mean = sum(inner) / 5
        deviation = (sum((x - mean) ** 2 for x in inner) / 5 + 1e-12) ** 0.5
        assert vectors[row].tolist() == pytest.approx([(x - mean) / deviation for x in inner], rel=1e-4, abs=1e-5)


def test_the_vector_of_an_empty_context_plays_no_part():
    encoder = build()
    entities, contexts = torch.randn(2, 2, 4), torch.randn(2, 3, 3)
    empty = torch.tensor([[True, False, True], [False, True, False]])
    other = torch.where(empty[:, :, None], torch.randn(2, 3, 3), contexts)
    assert torch.equal(encoder(entities, contexts, empty), encoder(entities, other, empty))
    contexts.requires_grad_(True)
    encoder(entities, contexts, empty).sum().backward()
    assert not contexts.grad[empty].any()


def test_the_order_of_the_entities_matters():
    encoder = build()
    entities, contexts, empty = torch.randn(1, 2, 4), torch.randn(1, 3, 3), torch.zeros(1, 3, dtype=torch.bool)
    assert not torch.allclose(encoder(entities, contexts, empty), encoder(entities.flip(1), contexts, empty))


def test_both_pair_encoders_are_asked_alike():
    """What fine-tuning and exports call."""
    torch.manual_seed(0)
    pairs, contexts, sentences = torch.randn(4, 2, 6), torch.randn(4, 3, 6), torch.randn(4, 8)
    empty = torch.rand(4, 3) < 0.5
    of_spe = SpanPairEncoder(6, 8, attention_size=5, position_size=3, dropout=0.0)
    five = torch.stack([contexts[:, 0], pairs[:, 0], contexts[:, 1], pairs[:, 1], contexts[:, 2]], dim=1)
    none = torch.zeros(4, dtype=torch.bool)
    of_five = torch.stack([empty[:, 0], none, empty[:, 1], none, empty[:, 2]], dim=1)
    expected = of_spe(five, sentences, empty=of_five)
    assert torch.equal(of_spe.from_parts(pairs, contexts, sentences, empty=empty), expected)
    of_enpar = EntityPairEncoder(6, 6, 9, dropout=0.0)
    expected = of_enpar(pairs, contexts, empty)
    assert torch.equal(of_enpar.from_parts(pairs, contexts, sentences, empty=empty), expected)
    assert (of_spe.size, of_enpar.size) == (6, 9)
