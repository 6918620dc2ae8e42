"""The loss of a step of ENPAR: which objectives there are, and that how it is computed does not change it."""

import numpy as np
import pytest
import torch

from data_shards.errors import UserError
from spe_dist.methods.metric_sums import MetricSums
from tests.paper.tiny_enpar import LANE_SIZE, Reader, build_enpar, forwards_of_step

OFF = {"weight": 0.0}
ENCODERS = {"sentence_encoder", "span_encoder", "context_encoder", "pair_encoder"}
OBJECTIVES = ("met", "mep", "acd", "pp")


def parts(enpar):
    return {name.split(".")[1 if name.startswith("encoder") else 0] for name, _ in enpar.model.named_parameters()}


@pytest.mark.parametrize(
    ("off", "expected"),
    [
        ((), ENCODERS | {"met", "mep", "acd", "pp"}),
        (("met",), ENCODERS | {"mep", "acd", "pp"}),
        (("acd",), ENCODERS | {"met", "mep", "pp"}),
        (("pp",), ENCODERS | {"met", "mep", "acd"}),
        (("acd", "pp"), {"sentence_encoder", "span_encoder", "met", "mep"}),
        (("met", "acd", "pp"), {"sentence_encoder", "mep"}),
        (("met", "mep"), ENCODERS | {"acd", "pp"}),
    ],
)
def test_an_objective_of_weight_0_has_no_parts_no_copies_and_no_loss(off, expected):
    enpar, engine = build_enpar(**dict.fromkeys(off, OFF))
    assert parts(enpar) == expected
    _, (batch, *_) = forwards_of_step(enpar)
    losses, _ = enpar.forward(engine, batch)
    for term, count, loss in zip(enpar.terms, batch.counts.tolist(), losses.tolist(), strict=True):
        assert (loss > 0) == (term not in off)
        assert count > 0 or term in off
    sequences, records = len(batch.packed.sequence_starts) - 1, len(batch.record_ids)
    masked = records * bool({"met", "mep"} - set(off))
    assert sequences - masked == len(batch.word_spans)
    assert (len(batch.word_spans) > 0) == bool({"acd", "pp"} - set(off))
    if "acd" in off and "pp" not in off:
        assert len(batch.word_spans) <= 5 * records
    if "pp" in off and "acd" not in off:
        assert len(batch.word_spans) <= 6 * records


def test_nothing_but_weights_of_0_is_refused():
    with pytest.raises(UserError, match="nothing would be trained"):
        build_enpar(met=OFF, mep=OFF, acd=OFF, pp=OFF)


def test_a_share_of_entities_above_1_is_refused():
    with pytest.raises(UserError, match="together more than 1"):
        build_enpar(masking={"masked": 0.7, "replaced": 0.4})


@pytest.mark.parametrize("on", OBJECTIVES)
def test_every_objective_alone_trains_every_parameter_it_has(on):
    enpar, engine = build_enpar(**{name: OFF for name in OBJECTIVES if name != on})
    _, (batch, *_) = forwards_of_step(enpar, lanes_per_forward=6)
    enpar.forward(engine, batch)[0].sum().backward()
    untouched = {name for name, p in enpar.model.named_parameters() if p.grad is None or not p.grad.any()}
    assert untouched <= {"acd.score.bias"}  # of a difference of two scores


def test_the_loss_is_the_weighted_sum_of_four_means():
    enpar, engine = build_enpar(met={"weight": 1.0}, mep={"weight": 2.0}, acd={"weight": 0.5}, pp={"weight": 3.0})
    assert list(enpar.term_weights) == [1.0, 2.0, 0.5, 3.0]
    _, batches = forwards_of_step(enpar)
    sums = sum(enpar.forward(engine, batch)[0].detach() for batch in batches)
    counts = sum(batch.counts for batch in batches)
    metrics = dict.fromkeys(enpar.metrics, 0.0)
    report = enpar.report(
        MetricSums(dict(zip(enpar.terms, sums.tolist())), dict(zip(enpar.terms, counts.tolist())), metrics)  # noqa: B905
    )
    for term, loss, count in zip(enpar.terms, sums.tolist(), counts.tolist(), strict=True):
        assert report[f"{term}_loss"] == pytest.approx(loss / count)


def step_gradient(enpar, engine, lanes_per_forward):
    """As the training loop does it: every term is divided by the step's count of its items."""
    enpar.model.zero_grad()
    _, batches = forwards_of_step(enpar, lanes_per_forward=lanes_per_forward)
    counts = torch.stack([batch.counts for batch in batches]).sum(0)
    losses, metrics = torch.zeros(4), torch.zeros(8)
    for batch in batches:
        terms, found = enpar.forward(engine, batch)
        (terms * torch.tensor(enpar.term_weights) / counts).sum().backward()
        losses, metrics = losses + terms.detach(), metrics + found
    gradients = [p.grad.flatten() for p in enpar.model.parameters()]
    return losses, metrics, counts, torch.cat(gradients)


def test_lanes_per_forward_changes_neither_the_losses_nor_the_gradient_of_a_step():
    enpar, engine = build_enpar()
    expected = step_gradient(enpar, engine, 6)
    assert expected[3].abs().max() > 1e-3
    for lanes_per_forward in (1, 2, 4):
        torch.testing.assert_close(step_gradient(enpar, engine, lanes_per_forward), expected, rtol=1e-4, atol=1e-5)


def test_a_forward_of_no_records_has_no_loss_and_gives_every_parameter_a_gradient_of_zeros():
    enpar, engine = build_enpar()
    none = np.zeros((0, LANE_SIZE), dtype=np.int64)
    empty = enpar.collate(Reader().take(none), none, 0, [])
    losses, metrics = enpar.forward(engine, empty)
    losses.sum().backward()
    assert losses.tolist() == [0.0] * 4
    assert metrics.tolist() == [0.0] * 8
    for name, parameter in enpar.model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_sentences_with_fewer_than_two_entities_are_refused():
    reader = Reader()
    reader.manifest.build["entities"]["min_entities"] = 1
    try:
        with pytest.raises(UserError, match="--min-entities"):
            build_enpar()
    finally:
        reader.manifest.build["entities"]["min_entities"] = 2
