"""The loss of a step: which objectives there are, and that how it is computed does not change it."""

import numpy as np
import pytest
import torch

from data_shards.errors import UserError
from spe_dist.methods.metric_sums import MetricSums
from spe_dist.methods.spe.method import SpeWithContrast
from tests.paper.tiny_spe import LANE_SIZE, Reader, build_spe, forwards_of_step

OFF = {"weight": 0.0}
WORDS = {"mask_unit": "span", "whole_sentences": True}
both_ways = pytest.mark.parametrize("spans", [{}, WORDS], ids=["paper", "words"])


def parts(spe):
    return {name.split(".")[1 if name.startswith("encoder") else 0] for name, _ in spe.model.named_parameters()}


ENCODER = {"sentence_encoder"}
CONTRAST = {"span_encoder", "pair_encoder", "head"}


@both_ways
@pytest.mark.parametrize(
    ("off", "expected"),
    [
        ([], ENCODER | CONTRAST | {"tbo", "spo"}),
        (["tbo"], ENCODER | CONTRAST | {"spo"}),
        (["spo"], ENCODER | CONTRAST | {"tbo"}),
        (["cspo"], ENCODER | {"span_encoder", "tbo", "spo"}),
        (["cspo", "spo"], ENCODER | {"tbo"}),
        (["cspo", "tbo"], ENCODER | {"span_encoder", "spo"}),
        (["tbo", "spo"], ENCODER | CONTRAST),
    ],
)
def test_an_objective_of_weight_0_has_no_parameters_no_keys_and_no_queue(off, expected, spans):
    spe, engine = build_spe(**dict.fromkeys(off, OFF), spans=spans)
    assert parts(spe) == expected
    contrast = "cspo" not in off
    assert isinstance(spe, SpeWithContrast) == contrast
    assert bool(spe.state()) == contrast
    assert hasattr(spe, "queue") == contrast
    _, (batch, *_) = forwards_of_step(spe)
    losses, _ = spe.forward(engine, batch)
    assert len(engine.calls[0]) == (3 if contrast else 1)  # keys and queue
    for term, count, loss in zip(spe.terms, batch.counts.tolist(), losses.tolist(), strict=True):
        objective = term.split("_")[0]
        if objective != "cspo":  # its queue is still empty
            assert (loss > 0) == (objective not in off)
            assert (count > 0) == (objective not in off)


def test_nothing_but_weights_of_0_is_refused():
    with pytest.raises(UserError, match="nothing would be trained"):
        build_spe(tbo=OFF, spo=OFF, cspo=OFF)


@both_ways
def test_every_objective_alone_trains_every_parameter_it_has(spans):
    for on in ("tbo", "spo", "cspo"):
        spe, engine = build_spe(**{name: OFF for name in ("tbo", "spo", "cspo") if name != on}, spans=spans)
        if on == "cspo":
            spe.queue.enqueue(torch.arange(30), *torch.nn.functional.normalize(torch.randn(2, 30, 16), dim=2))
        _, (batch, *_) = forwards_of_step(spe)
        spe.forward(engine, batch)[0].sum().backward()
        untouched = {name for name, p in spe.model.named_parameters() if p.grad is None or not p.grad.any()}
        assert untouched == set()


def step_gradient(spe, engine, lanes_per_forward):
    """As the training loop does it: every term is divided by the step's count of its items."""
    spe.model.zero_grad()
    _, batches = forwards_of_step(spe, lanes_per_forward=lanes_per_forward)
    counts = torch.stack([batch.counts for batch in batches]).sum(0)
    losses = torch.zeros(5)
    for batch in batches:
        terms = spe.forward(engine, batch)[0]
        (terms * torch.tensor(spe.term_weights) / counts).sum().backward()
        losses += terms.detach()
    spe._keys.clear()
    return losses, counts, torch.cat([p.grad.flatten() for p in spe.model.parameters()])


@both_ways
def test_lanes_per_forward_changes_neither_the_losses_nor_the_gradient_of_a_step(spans):
    spe, engine = build_spe(spans=spans)
    spe.queue.enqueue(torch.arange(30), *torch.nn.functional.normalize(torch.randn(2, 30, 16), dim=2))
    expected = step_gradient(spe, engine, 6)
    assert expected[2].abs().max() > 1e-2
    for lanes_per_forward in (1, 2, 4):
        found = step_gradient(spe, engine, lanes_per_forward)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@both_ways
def test_a_forward_of_no_records_has_no_loss_and_gives_every_parameter_a_gradient_of_zeros(spans):
    spe, engine = build_spe(spans=spans)
    spe.queue.enqueue(torch.arange(30), *torch.nn.functional.normalize(torch.randn(2, 30, 16), dim=2))
    none = np.zeros((0, LANE_SIZE), dtype=np.int64)
    empty = spe.collate(Reader().take(none), none, 0, [])
    losses, metrics = spe.forward(engine, empty)
    losses.sum().backward()
    assert losses.tolist() == [0.0] * 5
    assert metrics.tolist() == [0.0] * 7
    for name, parameter in spe.model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_reported_losses_are_means_over_items_and_over_both_views():
    spe, _ = build_spe()
    losses = {"tbo_pair": 6.0, "tbo_context": 5.0, "spo_pair": 8.0, "spo_context": 0.0, "cspo": 20.0}
    counts = {"tbo_pair": 2.0, "tbo_context": 5.0, "spo_pair": 4.0, "spo_context": 0.0, "cspo": 5.0}
    report = spe.report(MetricSums(losses, counts, dict.fromkeys((*spe.metrics, *spe.step_metrics), 1.0)))
    assert report["tbo_loss"] == (6 / 2 + 5 / 5) / 2
    assert report["spo_loss"] == (8 / 4 + 0) / 2  # a view without items counts as 0, as in the released program
    assert report["cspo_loss"] == 4.0
    assert report["tbo_accuracy"] == 2 / 7
