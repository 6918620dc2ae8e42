"""What a step keeps between its hooks."""

import pytest
import torch

from data_shards.errors import UserError
from data_shards.sample.documents import write_documents
from spe_dist.engine.world import World
from spe_dist.methods.metric_sums import MetricSums
from tests.paper.erica.tiny_erica import Step

DROPOUT = {"encoder": {"dropout": 0.3}}


def entities_of_step(step):
    """Entity vectors by which `before_step` compares relations, and those of the forwards that it did not make."""
    compared, differentiated = [], []
    encoder, model = step.erica.model.encoder, step.engine.forward
    encoder.register_forward_hook(
        lambda _, arguments, output: compared.append(output[1][arguments[0].rd_entities].detach().clone())
    )
    step.erica.before_step(step.engine, World(), step.plan, step.batches)
    before = [one.clone() for one in compared]
    step.engine.forward = lambda batch: differentiated.append(output := model(batch)) or output
    for batch in step.batches:
        step.erica.forward(step.engine, batch)
    return before, [output[2].detach() for output in differentiated]


def test_documents_are_encoded_a_second_time_with_the_same_dropout():
    before, again = entities_of_step(Step(lanes_per_forward=2, **DROPOUT))
    assert len(before) == len(again) == 3
    for one, other in zip(before, again, strict=True):
        assert torch.equal(one, other)


def test_a_single_forward_is_made_once():
    before, again = entities_of_step(Step(lanes_per_forward=6, **DROPOUT))
    assert (len(before), again) == (1, [])


@pytest.mark.parametrize("lanes_per_forward", [2, 6])
def test_the_generator_of_dropout_goes_on_from_the_last_forward(lanes_per_forward):
    step = Step(lanes_per_forward=lanes_per_forward, **DROPOUT)
    step.losses()
    first = torch.get_rng_state()
    step.losses()
    assert not torch.equal(first, torch.get_rng_state())


def test_questions_about_held_out_documents_are_logged_and_change_nothing(tmp_path):
    write_documents(tmp_path / "held", documents=8, seed=1, annotated={})
    step = Step(probe={"documents": str(tmp_path / "held" / "documents.json"), "count": 5}, **DROPOUT)
    erica = step.erica
    names = (erica.terms, erica.terms, (*erica.metrics, *erica.step_metrics))
    sums = MetricSums(*(dict.fromkeys(of, 1.0) for of in names))
    before = torch.get_rng_state()
    report = erica.report(sums) | erica.report_state()
    assert torch.equal(before, torch.get_rng_state())
    for name in ("probe_ed_hits_at_1", "probe_ed_hits_at_1_without_prefix", "probe_rd_1_nn", "probe_ed_chance"):
        assert 0 <= report[name] <= 1
    assert report == erica.report(sums) | erica.report_state()
    assert not any(name.startswith("probe") for name in Step().erica.report_state())


def test_a_file_of_held_out_documents_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"held\.json"):
        Step(probe={"documents": str(tmp_path / "held.json")})
