import pytest
import torch
from torch import nn

from spe_dist.methods.enpar.adversarial_context_discrimination import AdversarialContextDiscrimination


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


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
