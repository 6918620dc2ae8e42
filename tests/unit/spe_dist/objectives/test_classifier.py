"""Cross-entropy over classes and over the vocabulary, against sums by hand."""

import math

import pytest
import torch
from torch import nn

from spe_dist.models.transform_block import TransformBlock
from spe_dist.objectives.classifier import Classifier, NoObjective
from spe_dist.objectives.masked_language_modelling import MaskedLanguageModelling


def cross_entropy_by_hand(logits, target):
    return math.log(sum(math.exp(value) for value in logits)) - logits[target]


def gelu(value):
    return value * 0.5 * (1 + math.erf(value / 2**0.5))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def check_classifier(objective, classifier, vectors, classes):
    losses, found = (result.detach() for result in objective(vectors, classes))
    for row, vector in enumerate(vectors.tolist()):
        logits = [
            sum(w * x for w, x in zip(weights, vector, strict=True)) + bias
            for weights, bias in zip(classifier.weight.tolist(), classifier.bias.tolist(), strict=True)
        ]
        assert float(losses[row]) == pytest.approx(cross_entropy_by_hand(logits, int(classes[row])), rel=1e-5)
        assert bool(found[row]) == (logits.index(max(logits)) == int(classes[row]))


def test_classes():
    objective = Classifier(6, 4)
    nn.init.normal_(objective.classifier.weight)
    check_classifier(objective, objective.classifier, torch.randn(20, 6), torch.randint(4, (20,)))


def test_pieces_are_decoded_by_the_word_embeddings():
    table = nn.Embedding(7, 5)
    objective = MaskedLanguageModelling(5, table, dropout=0.0)
    assert objective.decoder.weight is table.weight
    nn.init.normal_(objective.block.linear.weight)
    nn.init.normal_(objective.decoder.bias)
    states, targets = torch.randn(9, 5), torch.randint(7, (9,))
    losses, found = (result.detach() for result in objective(states, targets))
    for row, state in enumerate(states.tolist()):
        inner = [
            gelu(sum(w * x for w, x in zip(weights, state, strict=True)))
            for weights in objective.block.linear.weight.tolist()
        ]
        mean = sum(inner) / 5
        deviation = (sum((x - mean) ** 2 for x in inner) / 5 + 1e-12) ** 0.5
        normed = [(x - mean) / deviation for x in inner]
        logits = [
            sum(w * x for w, x in zip(weights, normed, strict=True)) + bias
            for weights, bias in zip(table.weight.tolist(), objective.decoder.bias.tolist(), strict=True)
        ]
        assert float(losses[row]) == pytest.approx(cross_entropy_by_hand(logits, int(targets[row])), rel=1e-4)
        assert bool(found[row]) == (logits.index(max(logits)) == int(targets[row]))


def build_with_block():
    torch.manual_seed(0)
    objective = Classifier(7, 6, block=TransformBlock(7, 7, dropout=0.0))
    for parameter in objective.parameters():
        nn.init.normal_(parameter)
    return objective.double()


def test_loss_is_minus_the_log_probability_of_the_class():
    objective = build_with_block()
    vectors, classes = torch.randn(20, 7, dtype=torch.float64, requires_grad=True), torch.randint(0, 6, (20,))
    losses, found = objective(vectors, classes)
    logits = objective.block(vectors) @ objective.classifier.weight.T + objective.classifier.bias
    assert logits.shape == (20, 6)
    expected = torch.stack([row.exp().sum().log() - row[k] for row, k in zip(logits, classes, strict=True)])
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    assert found.tolist() == [max(range(6), key=row.__getitem__) == k for row, k in zip(logits, classes, strict=True)]
    gradients = [torch.autograd.grad(loss.sum(), vectors, retain_graph=True)[0] for loss in (losses, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_without_items_every_parameter_gets_a_gradient_of_zeros():
    objective = build_with_block()
    losses, found = objective(torch.zeros(0, 7, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))
    losses.sum().backward()
    assert len(losses) == len(found) == 0
    assert all(p.grad is not None and not p.grad.any() for p in objective.parameters())


def test_an_objective_that_is_off_has_no_parameters_no_items_and_takes_whatever_the_others_take():
    objective = NoObjective()
    losses, found = objective(torch.randn(3, 2), torch.zeros(3), torch.zeros(3))
    assert not list(objective.parameters())
    assert (losses.dtype, found.dtype, len(losses), len(found)) == (torch.float32, torch.bool, 0, 0)
