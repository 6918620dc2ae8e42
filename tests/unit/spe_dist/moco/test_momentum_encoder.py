import pytest
import torch
from torch import nn

from spe_dist.moco.momentum_encoder import MomentumEncoder

M = 0.999


def build(precision="fp32", *, momentum=M):
    torch.manual_seed(0)
    query = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.LayerNorm(8))
    return query, MomentumEncoder(query, momentum=momentum, device=torch.device("cpu"), precision=precision)


def test_it_starts_as_a_copy_with_memory_of_its_own():
    query, momentum = build()
    for name, parameter in query.named_parameters():
        copied = momentum.state()[name]
        assert torch.equal(copied, parameter)
        assert copied.data_ptr() != parameter.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hundred_updates_follow_the_formula_even_after_a_bf16_query(dtype):
    query, momentum = build()
    expected = {name: p.detach().double() for name, p in query.named_parameters()}
    for step in range(100):
        weights = {
            name: (p.detach() + torch.randn(p.shape, generator=torch.Generator().manual_seed(step))).to(dtype)
            for name, p in query.named_parameters()
        }
        momentum.update(weights)
        for name, weight in weights.items():
            expected[name] = M * expected[name] + (1 - M) * weight.double()
    start = {name: p.detach() for name, p in query.named_parameters()}
    for name, key in momentum.state().items():
        assert key.dtype == torch.float32
        assert (key - expected[name]).abs().max() < 1e-6
        assert (key - start[name]).abs().max() > 1e-3


def test_a_bf16_query_is_kept_in_fp32():
    query, _ = build()
    momentum = MomentumEncoder(query.bfloat16(), momentum=M, device=torch.device("cpu"), precision="bf16")
    assert {tensor.dtype for tensor in momentum.state().values()} == {torch.float32}
    assert next(query.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_keys_have_no_dropout_and_no_gradient_and_are_fp32(precision):
    query, momentum = build(precision)
    inputs = torch.randn(4, 8, requires_grad=True)
    given = inputs if precision == "fp32" else inputs.bfloat16()
    query.train()
    one, other = momentum.encode(given), momentum.encode(given)
    assert torch.equal(one, other)
    assert one.dtype == torch.float32
    assert not one.requires_grad
    assert not any(parameter.requires_grad for parameter in momentum.state().values())
    torch.testing.assert_close(one, query.eval()(inputs).detach(), rtol=0, atol=0 if precision == "fp32" else 0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_updates_equal_those_of_one_parameter_after_another_and_reach_the_keys(precision):
    query, momentum = build(precision, momentum=0.5)
    weights = {name: (p.detach() + 1).to(torch.bfloat16) for name, p in query.named_parameters()}
    expected = {name: key.clone().lerp_(weights[name].float(), 0.5) for name, key in momentum.state().items()}
    inputs = torch.randn(4, 8, dtype=torch.float32 if precision == "fp32" else torch.bfloat16)
    before = momentum.encode(inputs)
    momentum.update(weights)
    assert all(torch.equal(key, expected[name]) for name, key in momentum.state().items())
    rounded = query.to(inputs.dtype).eval()
    rounded.load_state_dict(expected)
    assert torch.equal(momentum.encode(inputs), rounded(inputs).float())
    for key in momentum.state().values():  # as a checkpoint that is loaded
        key.copy_(key + 1)
    assert not torch.equal(momentum.encode(inputs), before)
    rounded.load_state_dict(momentum.state())
    assert torch.equal(momentum.encode(inputs), rounded(inputs).float())


def test_the_query_is_left_alone():
    query, momentum = build()
    before = [parameter.clone() for parameter in query.parameters()]
    momentum.update({name: p.detach() + 1 for name, p in query.named_parameters()})
    assert all(torch.equal(p, b) for p, b in zip(query.parameters(), before, strict=True))
    assert all(parameter.requires_grad for parameter in query.parameters())
    assert query.training
