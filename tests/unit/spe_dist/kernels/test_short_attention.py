"""Attention of short packed sequences: the definition against torch's own, the kernels against the definition."""

import os
import subprocess
import sys
from unittest.mock import patch

import numpy
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from data_shards.errors import UserError
from spe_dist.kernels import short_attention as short
from spe_dist.models.joint_projections import joint_linear, lay_side_by_side

LENGTHS = {
    "sentences": [5, 20, 1, 32, 7],
    "more than a tile": [33, 3, 64, 70, 31],
    "one piece": [1],
    "long": [128, 2],
}


def starts_of(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int()


def draw(lengths, *, heads, size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(sum(lengths), *shape, heads, size, generator=generator).to(dtype) for shape in ((3,), ())]


def by_torch(qkv, lengths, scale):
    """One sequence after another."""
    parts = []
    for sequence in qkv.split(lengths):
        query, key, value = sequence.permute(1, 2, 0, 3)
        parts.append(scaled_dot_product_attention(query, key, value, scale=scale).transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_the_definition_is_attention_within_each_sequence(lengths):
    qkv, grad = draw(lengths, heads=3, size=32)
    starts = starts_of(lengths)
    values, gradients = [], []
    for way in (
        lambda given: short.short_attention(given, starts, short.find_tiles(starts, len(given)), scale=0.3),
        lambda given: by_torch(given, lengths, 0.3),
    ):
        given = qkv.clone().requires_grad_()
        values.append(way(given))
        gradients.append(torch.autograd.grad(values[-1], given, grad)[0])
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("lengths", [*LENGTHS.values(), [1] * 40, [64] * 3, [65]], ids=str)
def test_tiles_cover_every_piece_once(lengths):
    ends, sequences = short.find_tiles(starts_of(lengths), sum(lengths))
    expected = [i for i, length in enumerate(lengths) for _ in range(0, length, short.TILE)]
    there = sequences < len(lengths)
    assert sequences[there].tolist() == expected and not there[len(expected) :].any()
    assert ends.tolist() == [sum(i <= last for i in expected) for last in range(len(lengths))]


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # read when Triton is first imported
in_interpreter = pytest.mark.skipif(not INTERPRETED, reason="run by test_the_kernels_in_tritons_interpreter")


@pytest.mark.skipif(INTERPRETED, reason="this is that process")
def test_the_kernels_in_tritons_interpreter():
    """The tests below marked `in_interpreter`, in a process where Triton runs on the CPU."""
    triton = pytest.importorskip("triton", reason="Triton is not installed: torch's builds for CPUs come without it")
    if triton.__version__ < "3.7" and numpy.__version__ >= "2.5":
        pytest.skip(f"the interpreter of Triton {triton.__version__} does not run with numpy {numpy.__version__}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-k", "the_kernels", __file__],
        env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "." * 9 in done.stdout, done.stdout[-3000:]


@in_interpreter
@pytest.mark.parametrize("size", short.HEAD_SIZES)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_the_kernels_compute_the_definition(lengths, size):
    from spe_dist.kernels import short_attention_kernel as kernels

    qkv, grad = draw(lengths, heads=2, size=size, dtype=torch.float32)
    starts = starts_of(lengths)
    layout = starts, *short.find_tiles(starts, len(qkv))
    out, sums = kernels.forward(qkv, *layout, size**-0.5)
    expected, expected_sums = short._definition(qkv.double(), starts, size**-0.5)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sums, expected_sums, rtol=1e-5, atol=1e-5)
    found = kernels.backward(grad, qkv, out, sums, *layout, size**-0.5)
    expected = short._definition_backward(grad.double(), qkv.double(), starts, size**-0.5)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@in_interpreter
def test_the_kernels_in_half_precision_are_as_near_as_that_can_be():  # of bf16 the interpreter takes the bits
    from spe_dist.kernels import short_attention_kernel as kernels

    lengths = LENGTHS["more than a tile"]
    qkv, grad = draw(lengths, heads=2, size=64, dtype=torch.float16)
    starts = starts_of(lengths)
    layout = starts, *short.find_tiles(starts, len(qkv))
    out, sums = kernels.forward(qkv, *layout, 0.125)
    found = kernels.backward(grad, qkv, out, sums, *layout, 0.125)
    assert out.dtype == found.dtype == torch.float16
    expected = short._definition_backward(grad.double(), qkv.double(), starts, 0.125)
    assert (found.double() - expected).norm() < 0.002 * expected.norm()


def test_sentences_are_computed_in_small_tiles_and_long_texts_are_not():
    cpu = torch.device("cpu")
    assert short.suits(512, 512 * 22, 130, cpu)
    assert not short.suits(4, 4 * 300, 400, cpu)  # documents
    assert not short.suits(512, 512 * 22, 600, cpu)  # one of them is long
    with patch.object(short, "_chosen", "varlen"):
        assert not short.suits(512, 512 * 22, 130, cpu)
    with patch.object(short, "find_spec", return_value=None):
        assert short.problem_on.__wrapped__(cpu) == "triton is not installed"
    with patch.object(short, "find_spec"):
        assert not short.problem_on.__wrapped__(cpu)
        with patch.object(short, "_short_attention_backward", side_effect=RuntimeError("no ptxas\nat all")):
            assert short.problem_on.__wrapped__(cpu) == "its Triton kernel does not run here: no ptxas"
    with pytest.raises(UserError, match=r"kernels\.attention is short, but this run computes on cpu"):
        short.choose("short", cpu)


@pytest.mark.parametrize(
    ("side_by_side", "size"), [(False, 24), (True, 24), (True, 21)]
)  # the last: gaps between biases
def test_joint_products_equal_those_of_each_layer(side_by_side, size):
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(16, size).double() for _ in range(3))
    if side_by_side:
        lay_side_by_side(layers)
    expected_weights = [weight.clone() for weight in layers.parameters()]
    inputs = torch.randn(7, 16, dtype=torch.float64, requires_grad=True)
    into = torch.randn(7, 3 * size, dtype=torch.float64)
    leaves = (inputs, *layers.parameters())
    joint = joint_linear(inputs, [layer.weight for layer in layers], [layer.bias for layer in layers])
    apart = torch.cat([layer(inputs) for layer in layers], dim=1)
    torch.testing.assert_close(joint, apart)
    for one, other in zip(*(torch.autograd.grad(way, leaves, into) for way in (joint, apart)), strict=True):
        torch.testing.assert_close(one, other)
    assert all(torch.equal(now, before) for now, before in zip(layers.parameters(), expected_weights, strict=True))
