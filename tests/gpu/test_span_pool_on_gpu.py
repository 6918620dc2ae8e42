"""The CUDA body of `span_pool` against the definition; skipped where there is no GPU. `make gpu` runs these there."""

import pytest
import torch

from spe_dist.kernels import compiled
from spe_dist.kernels.span_pool import _span_pool, span_pool
from spe_dist.kernels.span_pool_reference import span_pool_backward_reference, span_pool_reference

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GPU = torch.device("cuda")


def random_case(seed):
    """Taps on the CPU, spans that may be empty, of one word, nested, overlapping or long; sizes of filters."""
    generator = torch.Generator().manual_seed(seed)
    words = int(torch.randint(1, 600, (1,), generator=generator))
    kernel_sizes = torch.randint(1, 7, (int(torch.randint(1, 5, (1,), generator=generator)),), generator=generator)
    channels = (1, 3, 4, 8, 100, 130)[seed % 6]
    dtype = (torch.float32, torch.float64, torch.bfloat16)[seed % 3]
    taps = torch.randn(words, int(kernel_sizes.sum()) * channels, generator=generator).to(dtype)
    bounds = torch.randint(0, words + 1, (seed % 300, 2), generator=generator).sort(dim=1).values
    return taps, bounds[:, 0].contiguous(), bounds[:, 1].contiguous(), kernel_sizes.tolist()


@pytest.mark.parametrize("first_seed", range(0, 1000, 100))
def test_values_places_and_gradients_are_those_of_the_definition(first_seed):
    for seed in range(first_seed, first_seed + 100):
        assert_as_defined(*random_case(seed))


def test_infinities_and_what_is_no_number_come_out_as_in_the_definition():
    for seed in range(12):
        taps, starts, ends, kernel_sizes = random_case(seed + 6)
        taps[torch.rand(taps.shape) < 0.02] = float("nan")
        taps[torch.rand(taps.shape) < 0.02] = float("inf")
        taps[torch.rand(taps.shape) < 0.02] = float("-inf")
        assert_as_defined(taps, starts, ends, kernel_sizes)


def assert_as_defined(taps, starts, ends, kernel_sizes):
    body = compiled.body_for(GPU)
    assert body is not None
    on_gpu = (taps.to(GPU), starts.to(GPU), ends.to(GPU))
    found = body.forward(*on_gpu, kernel_sizes)
    if not len(starts):
        return
    expected = span_pool_reference(taps, starts, ends, kernel_sizes)
    filled = starts < ends
    for mine, other in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(mine.cpu(), other, rtol=0, atol=0, equal_nan=True)
    for mine, other in zip(found[2:], expected[2:], strict=True):
        assert torch.equal(mine.cpu()[filled], other[filled])
    grads = [torch.randn(expected[0].shape, dtype=expected[0].dtype) for _ in range(2)]
    arguments = (*(grad.to(GPU) for grad in grads), *found[2:], *on_gpu[1:], kernel_sizes, len(taps))
    mine = body.backward(*arguments)
    other = span_pool_backward_reference(*grads, *expected[2:], starts, ends, kernel_sizes, len(taps))
    torch.testing.assert_close(mine.cpu(), other, rtol=1e-5, atol=1e-4 if taps.dtype != torch.float64 else 1e-11)
    assert torch.equal(mine, body.backward(*arguments))  # no atomics: the same bits every time


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_it_computes_on_the_device_of_its_tensors_whichever_is_current():
    taps, starts, ends, kernel_sizes = random_case(97)
    with torch.cuda.device(0):
        found = compiled.body_for(GPU).forward(*(part.to("cuda:1") for part in (taps, starts, ends)), kernel_sizes)
    expected = span_pool_reference(taps, starts, ends, kernel_sizes)
    assert torch.equal(found[0].cpu(), expected[0])


def test_the_operator_passes_opcheck_and_gradcheck():
    taps = torch.randn(12, 9 * 3, dtype=torch.float64, device=GPU, requires_grad=True)
    starts, ends = torch.tensor([0, 2, 4, 4], device=GPU), torch.tensor([5, 12, 4, 5], device=GPU)
    torch.library.opcheck(_span_pool, (taps, starts, ends, [2, 3, 4]))
    assert torch.autograd.gradcheck(lambda t: span_pool(t, starts, ends, kernel_sizes=(2, 3, 4)), taps)


def test_it_waits_for_nothing():
    taps = torch.randn(500, 900, device=GPU, dtype=torch.bfloat16, requires_grad=True)
    starts = torch.arange(0, 480, 4, device=GPU)
    span_pool(taps, starts, starts + 9, kernel_sizes=(2, 3, 4))[0].sum().backward()  # builds and loads
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        lowest, highest = span_pool(taps, starts, starts + 9, kernel_sizes=(2, 3, 4))
        (lowest + highest).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
