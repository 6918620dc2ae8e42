"""A tiny new encoder that learns the relations of a few embedded documents by heart; a model that has learned none."""

import json
from itertools import islice
from pathlib import Path

import torch
from transformers import BertConfig

from data_shards.sample.documents import generate_documents
from data_shards.text.word_pieces import WordPieces
from spe_dist.document_relations.config import DocumentRelationsConfig
from spe_dist.document_relations.folder import STEM, DocumentModelDescription, build_model
from spe_dist.finetuning.model_folder import save_model
from spe_dist.models.saved_encoder import new_sentence_encoder
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


def save_document_model(folder: Path, *, threshold: float = 0.5) -> Path:
    """A model with random weights, which finds relations between half of all pairs."""
    torch.manual_seed(1)
    word_pieces = WordPieces.load(str(DEBUG_VOCAB))
    description = DocumentModelDescription(
        relations=("owns", "runs", "in"), entity_size=8, distance_size=4, threshold=threshold, language="en"
    )
    config = BertConfig(vocab_size=word_pieces.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=24, max_position_embeddings=64)  # fmt: skip
    model = build_model(description, new_sentence_encoder(config)).eval()
    torch.nn.init.normal_(model.classifier.bilinear.weight)
    save_model(folder, STEM, model.sentence_encoder, description, word_pieces, model.state_dict())
    return folder
