import math

import pytest
import torch
from torch import nn

from spe_dist.methods.enpar.adversarial_context_discrimination import AdversarialContextDiscrimination
from spe_dist.methods.enpar.masked_entity_prediction import MaskedEntityPrediction
from spe_dist.methods.enpar.masked_entity_typing import MaskedEntityTyping
from spe_dist.methods.enpar.permutation_prediction import PermutationPrediction


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


def test_types_of_entities():
    objective = MaskedEntityTyping(6, 4)
    nn.init.normal_(objective.classifier.weight)
    check_classifier(objective, objective.classifier, torch.randn(20, 6), torch.randint(4, (20,)))


def test_permutations():
    objective = PermutationPrediction(5)
    nn.init.normal_(objective.classifier.weight)
    assert objective.classifier.out_features == 120
    check_classifier(objective, objective.classifier, torch.randn(20, 5), torch.randint(120, (20,)))


def test_pieces_are_decoded_by_the_word_embeddings():
    table = nn.Embedding(7, 5)
    objective = MaskedEntityPrediction(5, table)
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


def test_an_original_must_score_higher_than_its_copy_by_the_margin():
    """The paper's hinge on signed scores: an original below its copy loses more, not less."""
    objective = AdversarialContextDiscrimination(3, margin=1.0)
    nn.init.normal_(objective.score.weight)
    pairs = torch.randn(8, 3)
    originals, perturbed = torch.tensor([0, 0, 1, 2]), torch.tensor([4, 5, 6, 7])
    losses, found = (result.detach() for result in objective(pairs, originals, perturbed))
    scores = [
        sum(w * x for w, x in zip(objective.score.weight[0].tolist(), pair, strict=True)) for pair in pairs.tolist()
    ]
    for row, (one, other) in enumerate(zip(originals.tolist(), perturbed.tolist(), strict=True)):
        assert float(losses[row]) == pytest.approx(max(0.0, 1.0 - scores[one] + scores[other]), abs=1e-5)
        assert bool(found[row]) == (scores[one] > scores[other])


def test_no_gradient_once_the_margin_is_there():
    objective = AdversarialContextDiscrimination(1, margin=1.0)
    nn.init.ones_(objective.score.weight)
    pairs = torch.tensor([[3.0], [1.9], [2.1]], requires_grad=True)
    losses, _ = objective(pairs, torch.tensor([0, 0]), torch.tensor([1, 2]))
    losses.sum().backward()
    assert pairs.grad.flatten().tolist() == [-1.0, 0.0, 1.0]
    assert losses.tolist() == pytest.approx([0.0, 0.1], abs=1e-6)


def test_no_rows_give_no_losses_but_gradients():
    for objective, width in ((MaskedEntityTyping(4, 3), 4), (PermutationPrediction(4), 4)):
        losses, found = objective(torch.zeros(0, width), torch.zeros(0, dtype=torch.int64))
        losses.sum().backward()
        assert len(losses) == len(found) == 0
        assert all(parameter.grad is not None for parameter in objective.parameters())
