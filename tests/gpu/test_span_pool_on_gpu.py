"""The CUDA body of `span_pool` against the definition; skipped where there is no GPU. `make gpu` runs these there."""

import pytest
import torch

from spe_dist.kernels import compiled
from spe_dist.kernels.bodies import CudaBody
from spe_dist.kernels.span_pool import _span_gelu_pool, _span_pool, span_gelu_pool, span_pool
from tests.gpu.device import only_on_a_gpu
from tests.unit.spe_dist.kernels.definition import assert_as_defined, random_case

pytestmark = [pytest.mark.gpu, only_on_a_gpu]
GPU = torch.device("cuda")


@pytest.fixture
def body():
    """The compiled one: where nvcc is missing, tests must not pass on the reference."""
    found = compiled.body_for(GPU)
    assert isinstance(found, CudaBody)
    return found


@pytest.mark.parametrize("first_seed", range(0, 1000, 100))
def test_values_places_and_gradients_are_those_of_the_definition(body, first_seed):
    for seed in range(first_seed, first_seed + 100):
        assert_as_defined(body, *random_case(seed), device=GPU)


def test_batches_of_more_words_than_int16_can_number(body):
    taps = torch.randn(40_000, 9 * 4).bfloat16()
    starts = torch.arange(0, 39_990, 7)
    assert_as_defined(body, taps, starts, starts + 1 + starts % 9, [2, 3, 4], device=GPU)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_it_computes_on_the_device_of_its_tensors_whichever_is_current(body):
    with torch.cuda.device(0):
        assert_as_defined(body, *random_case(97), device=torch.device("cuda:1"))


def test_the_operators_pass_opcheck_and_gradcheck():
    taps = torch.randn(12, 9 * 3, dtype=torch.float64, device=GPU, requires_grad=True)
    bias = torch.randn(9, dtype=torch.float64, device=GPU, requires_grad=True)
    spans = torch.tensor([0, 2, 4, 4], device=GPU), torch.tensor([5, 12, 4, 5], device=GPU)
    torch.library.opcheck(_span_pool, (taps, *spans, [2, 3, 4]))
    torch.library.opcheck(_span_gelu_pool, (taps, bias, *spans, [2, 3, 4], True))
    assert torch.autograd.gradcheck(lambda t: span_pool(t, *spans, kernel_sizes=(2, 3, 4)), taps)
    assert torch.autograd.gradcheck(lambda *t: span_gelu_pool(*t, *spans, kernel_sizes=(2, 3, 4)), (taps, bias))


def test_it_waits_for_nothing():
    taps = torch.randn(500, 900, device=GPU, dtype=torch.bfloat16, requires_grad=True)
    bias = torch.randn(300, device=GPU, dtype=torch.bfloat16, requires_grad=True)
    starts = torch.arange(0, 480, 4, device=GPU)
    for mode in ("default", "error"):  # the first builds and loads
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode(mode)
        try:
            lowest, highest = span_pool(taps, starts, starts + 9, kernel_sizes=(2, 3, 4))
            (lowest + highest).sum().backward()
            span_gelu_pool(taps, bias, starts, starts + 9, kernel_sizes=(2, 3, 4)).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
