"""A hub of our own in place of the real one, and models to share."""

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http
from transformers import BertConfig

from spe_dist.export.export_format import Description
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.models.sizes import PairEncoderSizes, SpanEncoderSizes
from tests.unit.spe_dist.extraction.lively import save_lively
from tests.unit.spe_dist.extraction.tiny import word_pieces
from tests.unit.spe_dist.hub.hub_server import TOKEN, Hub, running_hub

RESULT = {
    "seed": 1, "epochs": 3, "best_epoch": 2,
    "dev": {"entity_f1": 0.9, "relation_f1": 0.8, "relation_strict_f1": 0.7},
    "test": {"entity_f1": 0.87654, "relation_f1": 0.65, "relation_strict_f1": 0.5},
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """One that Ann may write to, without a cache yet."""
    with running_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        template = f"{running.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)  # between tries
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        huggingface_hub.close_session()  # it may keep another proxy
        yield running
        huggingface_hub.close_session()


@pytest.fixture
def extractor(tmp_path: Path) -> Path:
    """The model of a fine-tuning that is over."""
    folder = save_lively(tmp_path / "runs/people/seed-1/model")
    config = {"start": {"pretrained": "bert"}, "encoder": {"name_or_path": "lab/small-bert"}}
    (folder.parent / "config.yaml").write_text(json.dumps(config | {"data": {"test": "/home/ann/conll 04.json"}}))
    (folder.parent / "result.json").write_text(json.dumps(RESULT))
    card = '---\ntags:\n- people\n---\n\n# people\n\n    spe predict FOLDER\n    f("FOLDER")\n'
    (folder / "README.md").write_text(card)
    return folder


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """What `spe export` writes."""
    sizes = SpanEncoderSizes(kernel_sizes=(2, 3), channels=5, size=8)
    description = Description(
        method="spe", weights="query", step=7, max_pieces=60, language="xx", span_encoder=sizes,
        pair_encoder=PairEncoderSizes(attention_size=8, position_size=4), head_size=4, normalize=True,
    )  # fmt: skip
    config = BertConfig(
        vocab_size=word_pieces().vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=64,
    )  # fmt: skip
    folder = tmp_path / "runs/wiki/export"
    folder.mkdir(parents=True)
    SpanPairModel(description, new_sentence_encoder(config), word_pieces()).save_pretrained(folder)
    return folder
