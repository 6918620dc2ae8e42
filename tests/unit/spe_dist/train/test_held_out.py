"""Losses on held-out records, against one lane at a time; at other ranks and stages: test_forwards_cut_by_pieces.py."""

import numpy as np
import pytest
import torch

from spe_dist.engine.world import World
from spe_dist.methods.metric_sums import MetricSums
from spe_dist.methods.registry import spec_of
from spe_dist.train.data_order import build_order, build_plan, open_reader
from spe_dist.train.held_out import HeldOut
from tests.exactness.runs import DROPOUT, LOSSES, configure
from tests.unit.spe_dist.random_documents import write_documents
from tests.unit.spe_dist.tiny_run import write_dataset


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out") / "shards"
    write_dataset(folder, sentences=80)
    write_dataset(folder.with_name("entity_shards"), sentences=80, entities=True)
    write_documents(folder.with_name("document_shards"), 80, shards=1)
    return folder


@pytest.mark.parametrize("name", ["spe", "enpar", "erica", "mlm"])
def test_losses_are_those_of_each_lane_by_itself_without_dropout(name, shards, tmp_path):
    batch = {"lanes": 2, "lane_size": 4, "lanes_per_forward": 2}
    config = configure(shards, tmp_path, method=name, data={"held_out": 22}, batch=batch, **DROPOUT)
    reader, spec = open_reader(config), spec_of(config)
    order, plan, world = build_order(config, reader.manifest), build_plan(config, 1), World()
    torch.manual_seed(3)
    method = spec.build(config, reader, device=torch.device("cpu"))
    if name == "spe":
        method.prefill(None)  # the queue
    wanted = {column.metric for column in spec.columns if column.log}
    state = {key: value.clone() for key, value in method.state().items()}
    before = torch.get_rng_state()
    forwards: list[None] = []
    held_out = HeldOut(reader, order, method, plan, world, metrics=wanted, train=config.train)
    found = held_out.report(list, lambda: forwards.append(None))
    assert len(forwards) == 3  # signs of life for the watchdog: two lanes, two lanes, one
    assert torch.equal(before, torch.get_rng_state()) and method.model.training
    assert all(torch.equal(value, state[key]) for key, value in method.state().items())

    ids = order.held_out_ids()
    assert ids.shape == (5, 4)
    method.model.eval()
    sums = [torch.zeros(len(method.terms)), torch.zeros(len(method.metrics) + len(method.step_metrics)), 0]
    with torch.no_grad():
        for lane, of_lane in enumerate(ids):
            batch = method.collate(reader.take(of_lane), of_lane[None], 0, (lane,))
            sums = [one + other for one, other in zip(sums, method.evaluate(batch), strict=True)]
    keys = (method.terms, (*method.metrics, *method.step_metrics), method.terms)
    of_keys = zip(keys, sums, strict=True)
    losses, metrics, counts = (dict(zip(names, part.tolist(), strict=True)) for names, part in of_keys)
    expected = method.report(MetricSums(losses, counts, metrics))
    for loss in LOSSES[name][1:]:
        assert found[f"held_out_{loss}"] == pytest.approx(expected[loss], rel=1e-5) and expected[loss] > 0
        accuracy = loss.replace("_loss", "_accuracy")
        assert found[f"held_out_{accuracy}"] == pytest.approx(expected[accuracy])
    means = [losses[term] / max(counts[term], 1) for term in method.terms]
    assert found["held_out_loss"] == pytest.approx(np.dot(method.term_weights, means), rel=1e-5)
    assert all(name.removeprefix("held_out_") in wanted | {"loss", "seconds"} for name in found)
