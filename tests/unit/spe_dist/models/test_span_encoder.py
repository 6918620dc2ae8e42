import pytest
import torch
from torch import nn

from spe_dist.models.span_encoder import SpanEncoder

HIDDEN, CHANNELS, SIZE, WORDS = 6, 4, 5, 15
KERNEL_SIZES = (2, 3, 4)


def build(dropout=0.0):
    torch.manual_seed(0)
    encoder = SpanEncoder(HIDDEN, kernel_sizes=KERNEL_SIZES, channels=CHANNELS, size=SIZE, dropout=dropout)
    nn.init.constant_(encoder.bias, -1.5)  # many sums lie where GELU falls, so that the smallest one counts too
    return encoder.double()


def convolutions_of(encoder):
    """The same weights in literal `Conv1d` modules."""
    convolutions, row = [], 0
    for number, size in enumerate(KERNEL_SIZES):
        convolution = nn.Conv1d(HIDDEN, CHANNELS, size, padding=size - 1).double()
        with torch.no_grad():
            for tap in range(size):
                convolution.weight[:, :, tap] = encoder.taps.weight[row : row + CHANNELS]
                row += CHANNELS
            convolution.bias.copy_(encoder.bias[number * CHANNELS : (number + 1) * CHANNELS])
        convolutions.append(convolution)
    return convolutions


def encode_by_loops(encoder, convolutions, words, spans):
    vectors = []
    for start, end in spans:
        pooled = [nn.functional.gelu(conv(words[start:end].T[None])).amax(dim=2)[0] for conv in convolutions]
        vectors.append(encoder.block(torch.cat(pooled)))
    return torch.stack(vectors)


@pytest.mark.parametrize("spans", [[(0, 1)], [(0, 15), (3, 6), (4, 5), (3, 6), (10, 15)]], ids=str)
def test_it_is_parallel_convolutions_gelu_max_pooling_and_a_transform_block(spans):
    encoder = build()
    convolutions = convolutions_of(encoder)
    words = torch.randn(WORDS, HIDDEN, dtype=torch.float64, requires_grad=True)
    starts, ends = torch.tensor(spans).unbind(1)
    found, expected = encoder(words, starts, ends), encode_by_loops(encoder, convolutions, words, spans)
    torch.testing.assert_close(found, expected)
    into = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad(found, (words, encoder.bias, *encoder.block.parameters()), into, retain_graph=True)[0],
        torch.autograd.grad(expected, words, into, retain_graph=True)[0],
    )
    taps = torch.autograd.grad(found, encoder.taps.weight, into)[0].split([k * CHANNELS for k in KERNEL_SIZES])
    for gradient, convolution in zip(taps, convolutions, strict=True):
        weight = torch.autograd.grad(expected, convolution.weight, into, retain_graph=True)[0]
        torch.testing.assert_close(gradient.unflatten(0, (-1, CHANNELS)).permute(1, 2, 0), weight)


def test_new_filters_are_drawn_as_those_of_conv1d():
    torch.manual_seed(0)
    encoder = SpanEncoder(300, kernel_sizes=KERNEL_SIZES, channels=50, size=5, dropout=0.0)
    weights, biases = encoder.taps.weight.split([100, 150, 200]), encoder.bias.split(50)
    for size, weight, bias in zip(KERNEL_SIZES, weights, biases, strict=True):
        literal = nn.Conv1d(300, 50, size)
        assert weight.abs().max() <= (300 * size) ** -0.5
        assert bias.abs().max() <= (300 * size) ** -0.5
        assert abs(weight.std() / literal.weight.std() - 1) < 0.02


def test_dropout_follows_pooling_and_the_block():
    encoder = build(dropout=0.5)
    seen = []
    encoder.block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    words, (starts, ends) = torch.randn(WORDS, HIDDEN).double(), torch.tensor([(0, 5)] * 200).unbind(1)
    out = encoder(words, starts, ends)
    assert 0.4 < (seen[0] == 0).double().mean() < 0.6
    assert 0.4 < (out == 0).double().mean() < 0.6
    encoder.eval()
    torch.testing.assert_close(encoder(words, starts, ends)[0], encoder(words, starts, ends)[1])


def test_no_spans_give_every_parameter_a_gradient_of_zeros():
    encoder = build()
    none = torch.zeros(0, dtype=torch.int64)
    vectors = encoder(torch.zeros(0, HIDDEN, dtype=torch.float64), none, none)
    assert vectors.shape == (0, SIZE)
    vectors.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())
