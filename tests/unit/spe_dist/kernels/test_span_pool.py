"""Span pooling against `conv1d` on every span by itself, padded with the zeros that surround it."""

import pytest
import torch
from torch.nn.functional import conv1d, gelu

from spe_dist.kernels.span_pool import _span_pool, span_gelu_pool, span_pool

KERNEL_SIZES = (2, 3, 4)
CHANNELS, HIDDEN, WORDS = 3, 6, 12
SPANS = {
    "one word": [(0, 1), (4, 5), (11, 12)],
    "overlapping and nested": [(0, 12), (2, 7), (3, 5), (5, 9), (2, 7)],
    "side by side": [(0, 3), (3, 4), (4, 12)],
    "with empty ones": [(0, 0), (2, 6), (6, 6), (12, 12)],
    "only empty ones": [(3, 3), (12, 12)],
    "none": [],
}


def drawn(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def filters(dtype):
    return [drawn(CHANNELS, HIDDEN, size, dtype=dtype, seed=size) for size in KERNEL_SIZES]


def taps_of(words, weights):
    """All taps of all filters applied to all words, in the order `span_pool` asks for."""
    return torch.cat([words @ weight[:, :, tap].T for weight in weights for tap in range(weight.shape[2])], dim=1)


def ends_of(spans):
    return torch.tensor(spans, dtype=torch.int64).reshape(-1, 2).unbind(1)


def conv_extremes(words, weights, spans):
    """Smallest and largest output of the convolutions of each span; 0 where there is none."""
    lowest, highest = [], []
    for start, end in spans:
        windows = [conv1d(words[start:end].T, w, padding=w.shape[2] - 1) for w in weights] if start < end else []
        zeros = [words.new_zeros(CHANNELS)] * len(weights)
        lowest.append(torch.cat([window.amin(1) for window in windows] or zeros))
        highest.append(torch.cat([window.amax(1) for window in windows] or zeros))
    empty = words.new_zeros(0, CHANNELS * len(weights))
    return (torch.stack(lowest), torch.stack(highest)) if spans else (empty, empty)


@pytest.mark.parametrize("spans", SPANS.values(), ids=SPANS.keys())
def test_extremes_and_gradients_are_those_of_conv1d_on_padded_spans(spans):
    words, weights = drawn(WORDS, HIDDEN).requires_grad_(), filters(torch.float32)
    expected = conv_extremes(words, weights, spans)
    found = span_pool(taps_of(words, weights), *ends_of(spans), kernel_sizes=KERNEL_SIZES)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    if any(start < end for start, end in spans):
        into = [drawn(*expected[0].shape, seed=seed) for seed in (1, 2)]
        gradients = [torch.autograd.grad(result, words, into)[0] for result in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spans", [SPANS["one word"], SPANS["overlapping and nested"], SPANS["side by side"]])
def test_with_bias_and_gelu_it_is_the_max_pooled_span_cnn(spans):
    words, weights = drawn(WORDS, HIDDEN).requires_grad_(), filters(torch.float32)
    bias = drawn(3 * CHANNELS, seed=9).requires_grad_()
    found = span_gelu_pool(taps_of(words, weights), bias, *ends_of(spans), kernel_sizes=KERNEL_SIZES)
    expected = torch.stack([
        torch.cat([
            gelu(conv1d(words[start:end].T, weight, part, padding=weight.shape[2] - 1)).amax(1)
            for weight, part in zip(weights, bias.split(CHANNELS), strict=True)
        ])
        for start, end in spans
    ])  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    into = drawn(*expected.shape, seed=1)
    gradients = [torch.autograd.grad(result, (words, bias), into) for result in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_random_spans_in_random_sentences(seed):
    ends = torch.randint(0, WORDS + 1, (30, 2), generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    words, weights = drawn(WORDS, HIDDEN, dtype=torch.float64, seed=seed), filters(torch.float64)
    found = span_pool(taps_of(words, weights), *ends.unbind(1), kernel_sizes=KERNEL_SIZES)
    torch.testing.assert_close(found, conv_extremes(words, weights, ends.tolist()))


def test_the_largest_gelu_of_a_set_is_the_larger_gelu_of_its_two_extremes():
    for seed in range(200):
        sets = drawn(100, 1 + seed % 40, dtype=torch.float64, seed=seed) * 3 ** (seed % 5 - 2) - seed % 3
        larger = torch.maximum(gelu(sets.amin(1)), gelu(sets.amax(1)))
        torch.testing.assert_close(larger, gelu(sets).amax(1), rtol=1e-12, atol=1e-15)


def test_the_largest_element_alone_does_not_tell_the_largest_gelu():
    lowest, highest = torch.tensor(-3.0), torch.tensor(-0.1)
    assert gelu(lowest) > gelu(highest)


@pytest.mark.parametrize("spans", SPANS.values(), ids=SPANS.keys())
def test_gradients_are_right_in_float64(spans):
    taps = drawn(WORDS, CHANNELS * 9, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: span_pool(t, *ends_of(spans), kernel_sizes=KERNEL_SIZES), taps)


@pytest.mark.parametrize("spans", SPANS.values(), ids=SPANS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operator_keeps_the_rules_of_torch_library(spans, dtype):
    taps = drawn(WORDS, CHANNELS * 9, dtype=dtype).requires_grad_()
    torch.library.opcheck(_span_pool, (taps, *ends_of(spans), list(KERNEL_SIZES)))


def test_bf16_taps_are_added_up_in_fp32():
    taps = drawn(WORDS, CHANNELS * 9, dtype=torch.bfloat16).requires_grad_()
    wide = taps.detach().float().requires_grad_()
    spans = SPANS["overlapping and nested"]
    found = span_pool(taps, *ends_of(spans), kernel_sizes=KERNEL_SIZES)
    expected = span_pool(wide, *ends_of(spans), kernel_sizes=KERNEL_SIZES)
    assert [part.dtype for part in found] == [torch.float32] * 2
    assert all(torch.equal(*parts) for parts in zip(found, expected, strict=True))
    into = [drawn(*found[0].shape, seed=seed) for seed in (1, 2)]
    gradient, wide_gradient = torch.autograd.grad(found, taps, into)[0], torch.autograd.grad(expected, wide, into)[0]
    assert gradient.dtype == torch.bfloat16
    assert torch.equal(gradient, wide_gradient.bfloat16())


def test_words_outside_every_span_get_no_gradient():
    taps = drawn(WORDS, CHANNELS * 9).requires_grad_()
    lowest, highest = span_pool(taps, *ends_of([(3, 5), (7, 7)]), kernel_sizes=KERNEL_SIZES)
    (lowest + highest).sum().backward()
    touched = taps.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [3, 4]


def test_empty_spans_give_the_gelu_of_the_bias_and_pass_their_gradient_to_it():
    taps, bias = drawn(WORDS, CHANNELS * 9).requires_grad_(), drawn(3 * CHANNELS, seed=9).requires_grad_()
    found = span_gelu_pool(taps, bias, *ends_of([(3, 3), (0, 0)]), kernel_sizes=KERNEL_SIZES)
    torch.testing.assert_close(found, gelu(bias).expand(2, -1))
    gradients = torch.autograd.grad(found.sum(), (taps, bias))
    assert not gradients[0].any()
    torch.testing.assert_close(gradients[1], torch.autograd.grad(2 * gelu(bias).sum(), bias)[0])


def test_no_words_at_all():
    lowest, highest = span_pool(torch.zeros(0, CHANNELS * 9), *ends_of([]), kernel_sizes=KERNEL_SIZES)
    assert lowest.shape == highest.shape == (0, CHANNELS * 3)
