import torch
from torch import nn

from spe_dist.methods.spe.span_permutation import SpanPermutationObjective


def build(dropout=0.0):
    torch.manual_seed(0)
    objective = SpanPermutationObjective(7, dropout=dropout)
    for parameter in objective.parameters():
        nn.init.normal_(parameter)
    return objective.double()


def test_loss_is_minus_the_log_probability_of_the_permutation():
    objective = build()
    spans, classes = torch.randn(20, 7, dtype=torch.float64, requires_grad=True), torch.randint(0, 6, (20,))
    losses, found = objective(spans, classes)
    logits = objective.block(spans) @ objective.classifier.weight.T + objective.classifier.bias
    assert logits.shape == (20, 6)
    expected = torch.stack([row.exp().sum().log() - row[k] for row, k in zip(logits, classes, strict=True)])
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    assert found.tolist() == [max(range(6), key=row.__getitem__) == k for row, k in zip(logits, classes, strict=True)]
    gradients = [torch.autograd.grad(loss.sum(), spans, retain_graph=True)[0] for loss in (losses, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_without_permuted_spans_every_parameter_gets_a_gradient_of_zeros():
    objective = build()
    losses, found = objective(torch.zeros(0, 7, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))
    losses.sum().backward()
    assert len(losses) == len(found) == 0
    assert all(p.grad is not None and not p.grad.any() for p in objective.parameters())
