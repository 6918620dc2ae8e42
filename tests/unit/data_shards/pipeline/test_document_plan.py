"""A worker must read the knowledge base and the excluded facts that the build was started with."""

import json
from dataclasses import replace

import pytest

from data_shards.errors import UserError
from data_shards.pipeline.document_plan import ExcludedPlan, KnowledgePlan, excluded_of_worker, linker_of_worker
from tests.unit.data_shards.knowledge.knowledge_bases import write_kb


def test_another_knowledge_base_on_this_machine_is_refused(tmp_path):
    folder = write_kb(tmp_path / "kb", {"Q1": ["Rana"], "Q2": ["Toldo"]}, [("Q1", "P1", "Q2")], {"P1": "born in"})
    plan, _ = KnowledgePlan.of(str(folder), "en", keep_unlinked=False)
    base, _ = linker_of_worker(plan)
    assert base.fingerprint == plan.fingerprint
    with pytest.raises(UserError, match="the knowledge base differs between machines, or was changed"):
        linker_of_worker(replace(plan, fingerprint="another"))


def test_other_excluded_facts_on_this_machine_are_refused(tmp_path):
    mention = {"sent_id": 0, "type": "PER"}
    vertices = [[mention | {"name": "Rana", "pos": [0, 1]}], [mention | {"name": "Toldo", "pos": [1, 2]}]]
    labels = [{"h": 0, "t": 1, "r": "P1", "evidence": [0]}]
    file = tmp_path / "facts.json"
    file.write_text(json.dumps([{"title": "t", "sents": [["Rana", "Toldo"]], "vertexSet": vertices, "labels": labels}]))
    plan = ExcludedPlan.of([str(file)])
    assert len(excluded_of_worker(plan)) == plan.pairs > 0
    with pytest.raises(UserError, match=r"facts\.json: the files differ between machines, or were changed"):
        excluded_of_worker(replace(plan, fingerprint="another"))
