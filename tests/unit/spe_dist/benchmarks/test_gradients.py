"""Shares of a step's gradient, against a backward pass of each objective alone."""

import pytest
import torch

from spe_dist.benchmarks.gradients import gradients_of_step
from tests.paper import tiny_enpar, tiny_spe


def spe_step(lanes_per_forward):
    spe, engine = tiny_spe.build_spe(encoder={"dropout": 0.0}, tbo={"weight": 0.5}, spo={"weight": 2.0})
    spe.queue.enqueue(torch.arange(30), *torch.nn.functional.normalize(torch.randn(2, 30, 16), dim=2))
    batches = tiny_spe.forwards_of_step(spe, lanes_per_forward=lanes_per_forward)[1]
    return spe, engine, batches, {"tbo": 0.5, "spo": 2.0, "cspo": 0.3}


def enpar_step(lanes_per_forward):
    enpar, engine = tiny_enpar.build_enpar(encoder={"dropout": 0.0}, pp={"weight": 3.0})
    batches = tiny_enpar.forwards_of_step(enpar, lanes_per_forward=lanes_per_forward)[1]
    return enpar, engine, batches, {"met": 1.0, "mep": 1.0, "acd": 1.0, "pp": 3.0}


def gradient_of(method, engine, batches, chosen):
    """On the layers alone, of the chosen terms' weighted means over all items of the step."""
    counts = torch.stack([batch.counts for batch in batches]).sum(0)
    method.model.zero_grad()
    for batch in batches:
        terms = method.forward(engine, batch)[0]
        sum(terms[i] * method.term_weights[i] / counts[i] for i in chosen).backward()
    layers = method.model.encoder.sentence_encoder.model.encoder.layer
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in layers.parameters()]
    ).double()


@pytest.mark.parametrize("step", [spe_step, enpar_step])
def test_norms_and_shares_are_those_of_each_loss_alone(step):
    method, engine, batches, objectives = step(2)
    assert len(batches) > 1
    found = gradients_of_step(method, batches, objectives)
    assert [row.objective for row in found] == list(objectives)
    whole = gradient_of(method, engine, batches, range(len(method.terms)))
    for row in found:
        chosen = [i for i, term in enumerate(method.terms) if term.startswith(row.objective)]
        alone = gradient_of(method, engine, batches, chosen)
        assert row.norm == pytest.approx(float(alone.norm()), rel=1e-4)
        assert row.norm > 1e-3
        assert row.share == pytest.approx(float(alone @ whole / (whole @ whole)), rel=1e-3, abs=1e-5)
    assert sum(row.share for row in found) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("step", [spe_step, enpar_step])
def test_lanes_per_forward_change_nothing(step):
    (method, _, batches, objectives), (_, _, fused, _) = step(1), step(6)
    for one, other in zip(*(gradients_of_step(method, each, objectives) for each in (batches, fused)), strict=True):
        assert (one.norm, one.loss) == pytest.approx((other.norm, other.loss), rel=1e-4)
