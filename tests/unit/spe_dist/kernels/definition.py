"""Random cases, and whether a body of `span_pool` computes on them what the definition says."""

import torch

from spe_dist.kernels.bodies import Spans
from spe_dist.kernels.span_pool_reference import (
    gelu_of_extremes,
    span_pool_backward_reference,
    span_pool_reference,
    value_dtype,
)

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
NUMBER_KINDS = ("finite", "finite", "finite", "with infinities and NaN")
ORDERS = ("any", "sorted", "disjoint", "crowded")


def random_case(seed, *, most_words=600, most_spans=300):
    """Taps, starts and ends on the CPU, kernel sizes. Spans are empty, of one word, nested, overlapping or long."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    words = draw(1, most_words)
    kernel_sizes = [draw(1, 7) for _ in range(draw(1, 5))]
    channels = (1, 3, 4, 8, 100, 130)[seed % 6]
    taps = torch.randn(words, sum(kernel_sizes) * channels, generator=generator).to(DTYPES[seed // 6 % 3])
    if NUMBER_KINDS[draw(0, 4)] != "finite":
        for value in (float("nan"), float("inf"), float("-inf")):
            taps[torch.rand(taps.shape, generator=generator) < 0.02] = value
    spans = draw(0, most_spans)
    bounds = torch.randint(0, words + 1, (spans, 2), generator=generator).sort(dim=1).values
    match ORDERS[seed % 4]:
        case "sorted":
            bounds = bounds[bounds[:, 0].argsort(stable=True)]
        case "disjoint":
            cuts = torch.randint(0, words + 1, (spans + 1,), generator=generator).sort().values
            bounds = torch.stack([cuts[:-1], cuts[1:]], dim=1)
        case "crowded":  # many at few words
            bounds = (bounds[:, :1] % 5 + torch.tensor([[0, 9]])).clamp(max=words).repeat(5, 1)
    return taps, bounds[:, 0].contiguous(), bounds[:, 1].contiguous(), kernel_sizes


def assert_as_defined(body, taps, starts, ends, kernel_sizes, *, device="cpu"):
    """Values and windows bit by bit, as both add taps in one order; gradients and GELU to rounding."""
    on_device = [part.to(device) for part in (taps, starts, ends)]
    spans = Spans(*on_device[1:], kernel_sizes)
    found = body.forward(on_device[0], spans)
    if not len(starts):
        columns = taps.shape[1] // sum(kernel_sizes) * len(kernel_sizes)
        assert [tuple(part.shape) for part in found] == [(0, columns)] * 4
        expected = [part.cpu() for part in found]
    else:
        expected = span_pool_reference(taps, starts, ends, kernel_sizes)
    filled = starts < ends
    for mine, other in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(mine.cpu(), other, rtol=0, atol=0, equal_nan=True)
    for mine, other in zip(found[2:], expected[2:], strict=True):
        assert torch.equal(mine.cpu()[filled].int(), other[filled].int())
    generator = torch.Generator().manual_seed(len(taps))
    grads = [torch.randn(expected[0].shape, generator=generator, dtype=expected[0].dtype) for _ in range(2)]
    places = [part.cpu() for part in found[2:]]
    extremes = list(zip((grad.to(device) for grad in grads), found[2:], strict=True))
    mine = body.backward(extremes, spans, len(taps), taps.dtype)
    other = span_pool_backward_reference(list(zip(grads, places, strict=True)), starts, ends, kernel_sizes, len(taps))
    _assert_close(mine, other)
    again = body.backward(extremes, spans, len(taps), taps.dtype)
    assert torch.equal(mine, again)  # no atomics: the same bits every time
    for bias_dtype in {taps.dtype, value_dtype(taps.dtype)}:
        _assert_gelu_as_defined(body, expected, grads[0].to(bias_dtype), on_device[0], spans)


def _assert_gelu_as_defined(body, extremes, grad, taps, spans):
    bias = torch.randn(extremes[0].shape[1], generator=torch.Generator().manual_seed(7)).to(grad.dtype)
    inputs = (taps, bias.to(taps.device), spans)
    pooled, slope, at = body.gelu_forward(*inputs, for_backward=True)
    alone, *nothing = body.gelu_forward(*inputs, for_backward=False)
    assert alone.view(torch.uint8).equal(pooled.view(torch.uint8)) and not any(part.numel() for part in nothing)
    expected_pooled, expected_slope, expected_at = gelu_of_extremes(*extremes, bias, for_backward=True)
    assert pooled.dtype == bias.dtype and slope.dtype == extremes[0].dtype
    starts, ends = spans.starts.cpu(), spans.ends.cpu()
    filled = (starts < ends)[:, None]
    pooled, found_slope, found_at = (part.cpu() for part in (pooled, slope, at))
    finite = extremes[0].isfinite() & extremes[1].isfinite()
    assert not pooled[~finite].isfinite().any()  # which of the two it is depends on torch's GELU
    _assert_close(pooled[finite], expected_pooled[finite])
    lower, higher = (torch.nn.functional.gelu(part + bias.to(part.dtype)) for part in extremes[:2])
    assert ((found_at == extremes[2]) | (found_at == extremes[3]))[finite & filled].all()
    clear = finite & ((lower - higher).abs() > 1e-5)  # rounding does not choose there
    assert torch.equal(found_at[clear].int(), expected_at[clear].int())
    torch.testing.assert_close(found_slope[clear], expected_slope[clear], rtol=1e-5, atol=2e-6)
    slope = slope.nan_to_num(0, 0, 0)  # the gradient of what is no number says nothing
    grads = body.gelu_backward(grad.to(taps.device), slope, at, spans, len(taps), taps.dtype)
    before_gelu = grad * slope.cpu()
    other = span_pool_backward_reference([(before_gelu, at.cpu())], starts, ends, spans.kernel_sizes, len(taps))
    _assert_close(grads[0], other)
    assert grads[0].dtype == taps.dtype and grads[1].dtype == bias.dtype
    _assert_close(grads[1], before_gelu.sum(0))


def _assert_close(mine, other):
    rtol, atol = {torch.float64: (1e-9, 1e-11), torch.float32: (1e-5, 1e-4), torch.bfloat16: (2**-7, 1e-3)}[mine.dtype]
    torch.testing.assert_close(mine.cpu(), other.to(mine.dtype), rtol=rtol, atol=atol, equal_nan=True)
