"""ENPAR trains on shards of documents as they are: their mentions are its entities."""

import json
from pathlib import Path

from data_shards.pipeline.build_config import BuildConfig
from data_shards.sample.documents import write_documents
from data_shards.shards.manifest import load
from tests.unit.data_shards.conftest import DEBUG_VOCAB, build_here
from tests.unit.spe_dist.tiny_run import train_tiny_run


def test_a_tiny_run_on_documents(tmp_path: Path) -> None:
    write_documents(tmp_path / "sample", documents=120, seed=4, annotated={})
    limits = {"min_words": 20, "min_entities": 3, "min_facts": 1, "max_pieces": 64}
    source = str(tmp_path / "sample" / "documents.json")
    build_here(BuildConfig((source,), tmp_path / "shards", DEBUG_VOCAB, documents=True, **limits))
    assert load(tmp_path / "shards").statistics.records > 100
    run = train_tiny_run(tmp_path, "enpar_debug")
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert all(0 < step["loss"] < 100 for step in steps)
