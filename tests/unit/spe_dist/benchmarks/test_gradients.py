"""Shares of a step's gradient, against a backward pass of each objective alone."""

import pytest
import torch

from spe_dist.benchmarks.gradients import gradients_of_step
from spe_dist.engine.world import World
from tests.paper import tiny_enpar, tiny_spe
from tests.paper.erica import tiny_erica

pytestmark = pytest.mark.any_version


def spe_step(lanes_per_forward):
    spe, engine = tiny_spe.build_spe(encoder={"dropout": 0.0}, tbo={"weight": 0.5}, spo={"weight": 2.0})
    spe.queue.enqueue(torch.arange(30), *torch.nn.functional.normalize(torch.randn(2, 30, 16), dim=2))
    plan, batches = tiny_spe.forwards_of_step(spe, lanes_per_forward=lanes_per_forward)
    return spe, engine, (plan, batches), {"tbo": 0.5, "spo": 2.0, "cspo": 0.3}


def enpar_step(lanes_per_forward):
    enpar, engine = tiny_enpar.build_enpar(encoder={"dropout": 0.0}, pp={"weight": 3.0})
    plan, batches = tiny_enpar.forwards_of_step(enpar, lanes_per_forward=lanes_per_forward)
    return enpar, engine, (plan, batches), {"met": 1.0, "mep": 1.0, "acd": 1.0, "pp": 3.0}


def erica_step(lanes_per_forward):
    step = tiny_erica.Step(lanes_per_forward=lanes_per_forward, rd={"weight": 2.0})
    return step.erica, step.engine, (step.plan, step.batches), {"ed": 1.0, "rd": 2.0, "mlm": 1.0}


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


@pytest.mark.parametrize("step", [spe_step, enpar_step, erica_step])
def test_norms_and_shares_are_those_of_each_loss_alone(step):
    method, engine, (plan, batches), objectives = step(2)
    assert len(batches) > 1
    found = gradients_of_step(method, plan, batches, objectives)
    assert [row.objective for row in found] == list(objectives)
    whole = gradient_of(method, engine, plan, batches, range(len(method.terms)))
    for row in found:
        chosen = [i for i, term in enumerate(method.terms) if term.startswith(row.objective)]
        alone = gradient_of(method, engine, plan, batches, chosen)
        assert row.norm == pytest.approx(float(alone.norm()), rel=1e-4)
        assert row.norm > 1e-3
        assert row.share == pytest.approx(float(alone @ whole / (whole @ whole)), rel=1e-3, abs=1e-5)
    assert sum(row.share for row in found) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("step", [spe_step, enpar_step, erica_step])
def test_lanes_per_forward_change_nothing(step):
    (method, _, batches, objectives), (_, _, fused, _) = step(1), step(6)
    for one, other in zip(*(gradients_of_step(method, *each, objectives) for each in (batches, fused)), strict=True):
        assert (one.norm, one.loss) == pytest.approx((other.norm, other.loss), rel=1e-4)
