"""Encoders of another kind, broken ones, and ones that do not fit their tokenizer: one line each."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertModel, GPT2Config, PretrainedConfig, T5Config

from data_shards.errors import UserError
from spe_dist.config import EncoderConfig
from spe_dist.models.saved_encoder import load_sentence_encoder, resolve_encoder_config

BERT = BertConfig(
    vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    max_position_embeddings=20,
)  # fmt: skip


def load(folder: Path, **options: Any) -> None:
    config = EncoderConfig(name_or_path=str(folder))
    hf_config = resolve_encoder_config(config, **{"vocab_size": 20, **options})
    load_sentence_encoder(str(folder), hf_config)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    BertModel(BERT).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def refused(folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(folder, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", [T5Config(d_model=8), GPT2Config(n_embd=8)])
def test_another_kind_is_named(config: PretrainedConfig, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    refused(tmp_path, f"encoders of type '{config.model_type}' are not supported; these are: bert, electra, roberta")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_decoder": True}, r"not supported \(config\.json: is_decoder"),
        ({"position_embedding_type": "relative_key"}, r"not supported \(config\.json: position_embedding_type\)"),
        ({"model_type": "roberta", "pad_token_id": None}, r"not supported \(config\.json: no pad_token_id\)"),
        ({"model_type": "of mine"}, r"cannot load .*: not an encoder folder \(.*`of mine`[^.]*\)"),
        ({"model_type": "of mine", "auto_map": {"AutoConfig": "a.B"}}, "code of its own .*NeoBERT.* never run here"),
        ({"num_attention_heads": 3}, "cannot be loaded .*not a multiple of the number of attention heads"),
        ({"hidden_act": "none"}, "cannot be loaded"),
        ({"vocab_size": 25}, "lacks 1 of the weights"),
    ],
)
def test_what_the_configuration_says_is_looked_at(bert: Path, changes: dict[str, Any], message: str) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | changes))
    refused(bert, message)


def test_fewer_pieces_than_the_tokenizer(bert: Path) -> None:
    refused(
        bert,
        "knows 30 pieces, but its tokenizer lab/tok has 31: name the tokenizer",
        vocab_size=31,
        tokenizer="lab/tok",
    )
    refused(bert, "knows 30 pieces, the shards were built with 31", vocab_size=31)
    refused(bert, "has 20 positions, the shards hold sentences of up to 21", max_pieces=21)


@pytest.mark.parametrize("content", [None, b"", b"<html>" * 99])
def test_weights_that_are_none(bert: Path, content: bytes | None) -> None:
    (bert / "model.safetensors").unlink()
    if content is not None:
        (bert / "model.safetensors").write_bytes(content)
    refused(bert, "cannot read model.safetensors there" if content is None else "bert cannot be loaded")
