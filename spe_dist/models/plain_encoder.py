"""Encoders of BERT's kind without transformers, for predicting: importing transformers takes longer than a text does.

Parameters have transformers' names and the operators its order, so states are equal to the last bit (tests/unit/
spe_dist/models/test_plain_encoder.py). What this does not know is computed by transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from spe_dist.models.packed_attention import packed_attention

_KINDS = ("bert", "electra", "roberta", "xlm-roberta", "camembert")
_SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "is_decoder",
)  # fmt: skip
_EMPTY = torch.device("meta")  # parameters without memory: the file's take their place


class PlainEncoder(nn.Module):
    """An encoder as `transformers.AutoModel` would build it for `SentenceEncoder`, without pooler and dropout.

    Args:
        config: values of its config.json.
    """

    backend = "torch"
    pieces_at_once = 0  # on CPUs, attending without padding; 0: all, padded inside the attention

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        hidden = config["hidden_size"]
        size = config.get("embedding_size", hidden)
        self.embeddings = _Embeddings(config, size)
        if size != hidden:
            self.embeddings_project = nn.Linear(size, hidden, device=_EMPTY)
        self.encoder = _Named(layer=nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"])))

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of piece embeddings."""
        table = self.embeddings.word_embeddings
        assert isinstance(table, nn.Embedding)
        return table

    def forward(
        self,
        *,
        position_ids: Tensor,
        token_type_ids: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **attention: Any,
    ) -> SimpleNamespace:
        """States of the last layer, as `last_hidden_state` [1, P, H]; `attention` is for the attention."""
        states = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        states = self.embeddings(states, position_ids, token_type_ids)
        if hasattr(self, "embeddings_project"):
            states = self.embeddings_project(states)
        for layer in self.encoder.get_submodule("layer").children():
            states = layer(states, attention)
        return SimpleNamespace(last_hidden_state=states)


def load_plain_encoder(folder: Path) -> PlainEncoder | None:
    """The encoder of a folder, in fp32; None if it is not of a kind that is known here, or anything is amiss."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        if (
            config["model_type"] not in _KINDS
            or config["hidden_act"] != "gelu"
            or config.get("position_embedding_type", "absolute") != "absolute"
            or not {*_SIZES} <= config.keys()
            or config["is_decoder"]
        ):
            return None
        weights = {
            name: weight.float()
            for name, weight in load_file(folder / "model.safetensors").items()
            if not name.startswith("pooler.")
        }
        encoder = PlainEncoder(config)
        encoder.load_state_dict(weights, assign=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError):
        return None  # transformers says what is wrong
    return encoder.eval()


def _table(rows: int, size: int) -> nn.Embedding:
    """Without drawing normal numbers, for which torch would import Dynamo where there is no memory."""
    return nn.Embedding.from_pretrained(torch.empty(rows, size, device=_EMPTY))


class _Named(nn.Module):
    """Nothing but modules under the names that the file of weights has."""

    def __init__(self, /, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class _Embeddings(nn.Module):
    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.word_embeddings = _table(config["vocab_size"], size)
        self.position_embeddings = _table(config["max_position_embeddings"], size)
        self.token_type_embeddings = _table(config["type_vocab_size"], size)
        self.LayerNorm = nn.LayerNorm(size, eps=config["layer_norm_eps"], device=_EMPTY)

    def forward(self, states: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        states = states + self.token_type_embeddings(types) + self.position_embeddings(positions)
        return self.LayerNorm(states)


class _SelfAttention(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, self.num_attention_heads = config["hidden_size"], config["num_attention_heads"]
        if hidden % self.num_attention_heads:
            raise ValueError("the hidden size is no multiple of the number of heads")
        self.scaling = (hidden // self.num_attention_heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(hidden, hidden, device=_EMPTY) for _ in range(3))

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        by_head = (*hidden_states.shape[:-1], self.num_attention_heads, -1)
        query, key, value = (
            layer(hidden_states).view(by_head).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        states, _ = packed_attention(self, query, key, value, attention_mask, scaling=self.scaling, **kwargs)
        return states.flatten(2), None


class _Output(nn.Module):
    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, config["hidden_size"], device=_EMPTY)
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"], device=_EMPTY)

    def forward(self, states: Tensor, added: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(states) + added)


class _Layer(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self.attention = _Named(self=_SelfAttention(config), output=_Output(config, hidden))
        self.intermediate = _Named(dense=nn.Linear(hidden, inner, device=_EMPTY))
        self.output = _Output(config, inner)

    def forward(self, states: Tensor, attention: Mapping[str, Any]) -> Tensor:
        attend, attended = self.attention.get_submodule("self"), self.attention.get_submodule("output")
        states = attended(attend(states, **attention)[0], states)
        return self.output(nn.functional.gelu(self.intermediate.get_submodule("dense")(states)), states)
