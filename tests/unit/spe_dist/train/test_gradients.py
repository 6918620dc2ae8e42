"""Shares of a step's gradient, against a backward pass of each objective alone."""

from unittest.mock import patch
from weakref import WeakSet

import pytest
import torch

from spe_dist.engine.world import World
from spe_dist.train.gradients import StepGradients, gradients_of_step, objectives_of
from tests.paper import tiny_enpar, tiny_spe
from tests.paper.erica import tiny_erica
from tests.paper.test_spanbert import build as build_spanbert

pytestmark = pytest.mark.any_version


def spe_step(lanes_per_forward, *, dropout=0.0):
    settings = {"tbo": {"weight": 0.5}, "spo": {"weight": 2.0}, "heads_dropout": dropout}
    spe, engine = tiny_spe.build_spe(encoder={"dropout": dropout}, **settings)
    spe.queue.enqueue(torch.arange(30), *torch.nn.functional.normalize(torch.randn(2, 30, 16), dim=2))
    return spe, engine, tiny_spe.forwards_of_step(spe, lanes_per_forward=lanes_per_forward)


def enpar_step(lanes_per_forward, *, dropout=0.0):
    enpar, engine = tiny_enpar.build_enpar(encoder={"dropout": dropout}, pp={"weight": 3.0}, heads_dropout=dropout)
    return enpar, engine, tiny_enpar.forwards_of_step(enpar, lanes_per_forward=lanes_per_forward)


def erica_step(lanes_per_forward, *, dropout=0.0):
    step = tiny_erica.Step(lanes_per_forward=lanes_per_forward, rd={"weight": 2.0}, encoder={"dropout": dropout})
    return step.erica, step.engine, (step.plan, step.batches)


def spanbert_step(lanes_per_forward, *, dropout=0.0):
    mlm = build_spanbert(encoder={"dropout": dropout}, sbo={"weight": 2.0}, train={"precision": "fp32"})
    return mlm, tiny_spe.PlainEngine(mlm.model), tiny_spe.forwards_of_step(mlm, lanes_per_forward=lanes_per_forward)


STEPS = [spe_step, enpar_step, erica_step, spanbert_step]


class Kept:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


def gradient_of(method, engine, plan, batches, chosen):
    """On the layers alone, of the chosen terms' weighted means over all items of the step."""
    more = method.before_step(engine, World(), plan, batches)
    counts = torch.stack([batch.counts for batch in batches]).sum(0)
    counts += torch.tensor([more.get(term, 0) for term in method.terms])
    method.model.zero_grad()
    for batch in batches:
        terms = method.forward(engine, batch)[0]
        sum(terms[i] * method.term_weights[i] / counts[i] for i in chosen).backward()
    layers = method.model.encoder.sentence_encoder.model.encoder.layer
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in layers.parameters()]
    ).double()


@pytest.mark.parametrize("step", STEPS)
def test_norms_and_shares_are_those_of_each_loss_alone_with_the_dropout_of_the_step_to_come(step):
    method, engine, (plan, batches) = step(2, dropout=0.3)
    assert len(batches) > 1
    gradients = StepGradients(method.config, method, plan, World())
    with torch.no_grad():  # an engine's weights move
        for parameter in method.model.parameters():
            parameter.mul_(1.01)
    method.model.train()
    random_state, kept = torch.get_rng_state(), [tensor.clone() for tensor in method.state().values()]
    gradients.measure(method, engine, batches)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(map(torch.equal, method.state().values(), kept))
    assert all(parameter.grad is None for parameter in method.model.parameters())
    found = gradients.report()
    assert not gradients.report()
    for name in objectives_of(method.config, method):
        torch.set_rng_state(random_state)
        whole = gradient_of(method, engine, plan, batches, range(len(method.terms)))
        torch.set_rng_state(random_state)
        chosen = [i for i, term in enumerate(method.terms) if term.startswith(name)]
        alone = gradient_of(method, engine, plan, batches, chosen)
        norm, share = found.pop(f"gradients_{name}"), found.pop(f"gradients_{name}_share")
        assert norm == pytest.approx(float(alone.norm()), rel=1e-4)
        assert norm > 1e-3
        assert share == pytest.approx(float(alone @ whole / (whole @ whole)), rel=1e-3, abs=1e-5)
    assert not found


@pytest.mark.parametrize("step", STEPS)
def test_lanes_per_forward_change_nothing_but_what_is_kept_at_a_time(step):
    (method, _, batches), (_, _, fused) = step(1), step(6)
    objectives, forward, kept = objectives_of(method.config, method), method.forward, WeakSet()

    def keep(tensor):
        kept.add(one := Kept(tensor.detach()))  # an output would keep its own graph
        return one

    def begin(*args):
        assert not kept  # of the forward before
        return forward(*args)

    with (
        patch.object(method, "forward", begin),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one.tensor),
    ):
        split = gradients_of_step(method, World(), *batches, objectives)
    whole = gradients_of_step(method, World(), *fused, objectives)
    for one, other in zip(split, whole, strict=True):
        assert (one.norm, one.loss) == pytest.approx((other.norm, other.loss), rel=1e-4)
    assert sum(one.share for one in split) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("every", "log_every", "due"), [(4, 2, [4, 8, 12]), (3, 2, [4, 6, 10, 12]), (1, 5, [5, 10])])
def test_a_step_is_measured_right_before_a_line_of_metrics(every, log_every, due):
    train = {"gradients_every": every, "log_every": log_every}
    method, _, (plan, _) = spanbert_step(6)
    config = build_spanbert(train=train | {"precision": "fp32"}).config
    gradients = StepGradients(config, method, plan, World())
    assert [step for step in range(1, 14) if gradients.is_due(step)] == due
