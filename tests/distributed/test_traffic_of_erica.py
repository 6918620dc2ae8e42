"""What ranks send to compare the relations of a step: by formula, and counted on gloo."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.methods.erica.footprint import ENTITIES_PER_DOCUMENT, transfers
from spe_dist.recipe import load_recipe
from spe_dist.train.session import open_session
from tests.distributed.collectives import recorded_collectives
from tests.distributed.ranks import run_ranks
from tests.exactness.runs import configure
from tests.unit.spe_dist.random_documents import write_documents
from tests.unit.spe_dist.tiny_run import ROOT

HIDDEN_SIZE = 32


def sent_in_a_step(config):
    """Collectives of the second step, and this rank's entities in it."""
    with open_session(replace(config, train=replace(config.train, steps=2))) as session:
        for batches in session.batches():
            with recorded_collectives() as calls:
                session.take_step(batches, 0.0)
    return calls, sum(len(batch.rd_entities) for batch in batches)


@pytest.mark.distributed
@pytest.mark.parametrize("lanes_per_forward", [1, 2])
def test_entity_vectors_are_gathered_once_and_their_gradients_added_once(tmp_path, lanes_per_forward):
    write_documents(tmp_path / "document_shards", 60)
    batch = {"lanes_per_forward": lanes_per_forward}
    config = configure(tmp_path / "shards", tmp_path / "runs", method="erica", batch=batch, train={"zero_stage": 3})
    ranks = run_ranks(sent_in_a_step, 2, config)
    entities = [of_rank for _, of_rank in ranks]
    assert all(entities)
    row = 4 * HIDDEN_SIZE
    for calls, _ in ranks:
        assert calls.count(("all-gather", "float32", 2 * max(entities) * row)) == 1  # padded to the rank with most
        assert calls.count(("all-reduce", "float32", sum(entities) * row)) == 1


@pytest.mark.parametrize("workers", [8, 64])
def test_the_papers_run_gathers_81_megabytes_of_entities(workers):
    config = load_recipe(ROOT / "launcher/recipes/erica_wiki.yaml")
    model = SimpleNamespace(encoder=SimpleNamespace(sentence_encoder=SimpleNamespace(hidden_size=768)))
    plan = BatchPlan(config.batch.lanes, config.batch.lane_size, config.batch.lanes_per_forward, workers)
    vectors, gradients, rows = transfers(config, model, plan)
    assert vectors.payload == gradients.payload == int(2048 * ENTITIES_PER_DOCUMENT * 768 * 4)
    assert round(vectors.payload / 1e6) == 81
    assert round(rows.payload / 1e5) == 45  # 80,282 rows of 7 numbers: 4.5 MB
    lanes = replace(config, rd=replace(config.rd, scope="lane"))
    assert transfers(lanes, model, plan) == []
