"""A tiny new encoder that learns the relations of a few embedded documents by heart."""

import json
from itertools import islice
from pathlib import Path

from data_shards.sample.documents import generate_documents
from spe_dist.document_relations.config import DocumentRelationsConfig
from spe_dist.recipe import checked_config, read_values
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB, ROOT


def write_documents(path: Path, *, documents: int = 4, seed: int = 1) -> None:
    told = [one.as_docred() for one in islice(generate_documents(documents, seed=seed), documents)]
    path.write_text(json.dumps(told))


def config_in(folder: Path, **sections: dict) -> DocumentRelationsConfig:
    values = read_values(ROOT / "launcher" / "recipes" / "finetune_document_relations_cpu.yaml")
    data = folder / "documents.json"
    if not data.exists():
        write_documents(data)
    small = {
        "run": {"folder": str(folder), "name": "tiny"},
        "data": {"train": str(data), "dev": str(data), "test": str(data)},
        "start": {"tokenizer": str(DEBUG_VOCAB)},
        "encoder": {
            "name_or_path": None, "layers": 1, "hidden_size": 32, "heads": 2, "intermediate_size": 48,
            "max_positions": 128, "dropout": 0.0,
        },
        "model": {"entity_size": 24, "distance_size": 4},
        "optimizer": {"learning_rate": 1e-2, "heads": 1.0},
        "train": {"epochs": 40, "batch_size": 2, "precision": "fp32", "patience": 40, "checkpoint_every": 10},
    }  # fmt: skip
    for changes in (small, sections):
        values |= {key: values.get(key, {}) | change for key, change in changes.items()}
    return checked_config(DocumentRelationsConfig, values, source="test")
