import torch

from spe_dist.models.span_pair_encoder import SpanPairEncoder

SPAN, HIDDEN, ATTENTION, POSITION = 6, 8, 5, 3
LEFT, FIRST, MIDDLE, SECOND, RIGHT = range(5)


def build(dropout=0.0):
    torch.manual_seed(0)
    encoder = SpanPairEncoder(SPAN, HIDDEN, attention_size=ATTENTION, position_size=POSITION, dropout=dropout)
    for parameter in encoder.parameters():  # large, so that attention is far from uniform
        torch.nn.init.normal_(parameter, std=1.0)
    return encoder.double()


def encode_by_loops(encoder, spans, sentence, empty):
    """One sequence, as in the paper: e_i = v · tanh(W_h h_i + W_q h_cls + W_s1 p_i1 + W_s2 p_i2)."""
    w_s1, w_s2 = encoder.from_positions.weight.split(POSITION, dim=1)
    energies = {}
    for i in range(5):
        if empty[i]:
            continue
        to_first = encoder.positions.weight[(i - FIRST) + 3]  # distances in spans, from -3 to 3
        to_second = encoder.positions.weight[(i - SECOND) + 3]
        inside = encoder.from_span.weight @ spans[i] + encoder.from_sentence.weight @ sentence
        energies[i] = encoder.score.weight[0] @ torch.tanh(inside + w_s1 @ to_first + w_s2 @ to_second)
    total = sum(energy.exp() for energy in energies.values())
    return sum(energy.exp() / total * spans[i] for i, energy in energies.items())


def inputs():
    spans = torch.randn(20, 5, SPAN, dtype=torch.float64, requires_grad=True)
    sentences = torch.randn(20, HIDDEN, dtype=torch.float64, requires_grad=True)
    empty = torch.rand(20, 5) < 0.4
    empty[:, [FIRST, SECOND]] = False
    return spans, sentences, empty


def test_a_pair_is_the_papers_attention_over_its_five_spans():
    encoder = build()
    spans, sentences, empty = inputs()
    found = encoder(spans, sentences, empty)
    expected = torch.stack([encode_by_loops(encoder, *row) for row in zip(spans, sentences, empty, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # the softmax is in fp32
    into, leaves = torch.randn_like(found), (spans, sentences, *encoder.parameters())
    for one, other in zip(
        torch.autograd.grad(found, leaves, into), torch.autograd.grad(expected, leaves, into), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_distances_are_counted_in_spans():
    table = (build().distances - 3).tolist()
    assert [to_first for to_first, _ in table] == [-1, 0, 1, 2, 3]
    assert [to_second for _, to_second in table] == [-3, -2, -1, 0, 1]
    assert build().positions.weight.shape == (7, POSITION)


def test_empty_spans_get_no_weight_and_no_gradient():
    encoder = build()
    spans, sentences, empty = inputs()
    pair = encoder(spans, sentences, empty)
    other_words = torch.where(empty[:, :, None], 1e3, spans)
    assert torch.equal(encoder(other_words, sentences, empty), pair)
    pair.sum().backward()
    assert not spans.grad[empty].any()
    assert spans.grad[~empty].all()


def test_attention_has_no_biases_and_starts_as_bert_does():
    encoder = SpanPairEncoder(300, 768, attention_size=500, position_size=100, dropout=0.0)
    assert {name: tuple(p.shape) for name, p in encoder.named_parameters()} == {
        "positions.weight": (7, 100),
        "from_span.weight": (500, 300),
        "from_sentence.weight": (500, 768),
        "from_positions.weight": (500, 200),
        "score.weight": (1, 500),
    }
    assert all(abs(p.std() - 0.02) < 0.003 for p in encoder.parameters())
    assert not encoder.state_dict().keys() - dict(encoder.named_parameters()).keys()


def test_no_sequences_give_every_parameter_a_gradient_of_zeros():
    encoder = build()
    none = torch.zeros(0, dtype=torch.float64)
    encoder(none.view(0, 5, SPAN), none.view(0, HIDDEN), torch.zeros(0, 5, dtype=torch.bool)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())
