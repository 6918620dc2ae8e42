"""What the accepted kinds of Hugging Face encoders differ in: by the `model_type` of their config.json."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from data_shards.errors import UserError
from spe_dist.config import EncoderConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Architecture:
    """How encoders of one type are built.

    Args:
        packed: whether attention supports packed sequences; else the layers run on padded ones.
        pooler: whether AutoModel builds a layer on the state of [CLS], which no objective trains.
        behind_padding: whether positions start after the index of the padding piece.
        layers: attribute path of the layers in the model.
        dropout: names of the settings of the states' dropout.
        attention_dropout: name of the setting of the attention weights' dropout.
    """

    packed: bool = True
    pooler: bool = False
    behind_padding: bool = False
    layers: str = "encoder.layer"
    dropout: tuple[str, ...] = ("hidden_dropout_prob",)
    attention_dropout: str = "attention_probs_dropout_prob"


_ROBERTA = Architecture(pooler=True, behind_padding=True)
_ARCHITECTURES = {
    "bert": Architecture(pooler=True),
    "electra": Architecture(),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "modernbert": Architecture(
        layers="layers", dropout=("embedding_dropout", "mlp_dropout"), attention_dropout="attention_dropout"
    ),
    "deberta-v2": Architecture(packed=False),  # DeBERTa-v3 and mDeBERTa too
}
SUPPORTED = ", ".join(_ARCHITECTURES)


def architecture_of(hf_config: PretrainedConfig) -> Architecture:
    """Architecture that an encoder's configuration describes.

    Raises:
        UserError: its type, or the variant of its type, is not supported.
    """
    kind = hf_config.model_type
    if kind not in _ARCHITECTURES:  # before anything else is read: configurations of other kinds have other fields
        raise UserError(f"encoders of type {kind!r} are not supported; these are: {SUPPORTED}")
    architecture = _ARCHITECTURES[kind]
    ropes = (getattr(hf_config, "rope_parameters", None) or {}).values()
    for wrong, reason in (
        (getattr(hf_config, "is_decoder", False), "is_decoder: a piece sees only those before it"),
        (getattr(hf_config, "position_embedding_type", None) not in (None, "absolute"), "position_embedding_type"),
        (architecture.behind_padding and hf_config.pad_token_id is None, "no pad_token_id"),
        (any(rope["rope_type"] != "default" for rope in ropes), "rope_parameters: rope_type"),  # may look at the batch
    ):
        if wrong:
            raise UserError(
                f"this variant of {kind} is not supported (config.json: {reason}): name another encoder; these types "
                f"are supported: {SUPPORTED}"
            )
    return architecture


def first_position(hf_config: PretrainedConfig) -> int:
    """The position of [CLS]."""
    return hf_config.pad_token_id + 1 if architecture_of(hf_config).behind_padding else 0


def most_pieces(hf_config: PretrainedConfig) -> int:
    """The longest sequence that it was made for, [CLS] and [SEP] included."""
    return hf_config.max_position_embeddings - first_position(hf_config)


def layers_of(model: Any) -> nn.ModuleList:
    """Layers of an encoder, the lowest first."""
    return cast(nn.ModuleList, attrgetter(architecture_of(model.config).layers)(model))


def window_of(hf_config: PretrainedConfig) -> int | None:
    """How far a piece looks to either side in layers of ModernBERT that attend nearby; None: no layer is such."""
    return hf_config.sliding_window if hf_config.model_type == "modernbert" else None


def set_dropout(hf_config: PretrainedConfig, config: EncoderConfig) -> None:
    """Dropout as the configuration says.

    Raises:
        UserError: this machine's attention has none.
    """
    architecture = architecture_of(hf_config)
    if torch.cuda.is_available() and config.attention_dropout > 0 and architecture.packed:
        raise UserError("encoder.attention_dropout must be 0 on CUDA: its packed attention has no dropout")
    for name in architecture.dropout:
        setattr(hf_config, name, config.dropout)
    setattr(hf_config, architecture.attention_dropout, config.attention_dropout)


def how_it_runs(hf_config: PretrainedConfig) -> str:
    """One line for people: packed, or padded and why."""
    if architecture_of(hf_config).packed:
        return "packed: layers run without padding"
    return (
        f"padded: the attention of {hf_config.model_type} does not support packed sequences, so its layers run on "
        "groups of sequences of similar length, each padded to its longest"
    )
