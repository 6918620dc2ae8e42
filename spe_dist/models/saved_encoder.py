"""Sentence encoders from a configuration, a name or a folder, and into a folder: as transformers reads them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from spe_dist.config import ComputeConfig, EncoderConfig
from spe_dist.models.architectures import architecture_of, how_it_runs, most_pieces, set_dropout
from spe_dist.models.exported_encoders import load_exported_encoder
from spe_dist.models.hugging_face import check_vocabulary, load_config, new_config, quiet_transformers, reason_of
from spe_dist.models.packed_attention import NAME, packed_attention
from spe_dist.models.plain_encoder import load_plain_encoder
from spe_dist.models.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_logger = logging.getLogger(__name__)


def resolve_encoder_config(
    config: EncoderConfig, *, vocab_size: int, max_pieces: int = 1, tokenizer: str | None = None
) -> PretrainedConfig:
    """Sizes of the encoder that the configuration names or describes, checked against the shards or a tokenizer.

    Args:
        config: which encoder.
        vocab_size: pieces of the vocabulary.
        max_pieces: longest sequence of the shards, [CLS] and [SEP] included.
        tokenizer: where the vocabulary is from; None: the shards.

    Raises:
        UserError: it cannot be found, is of an unknown kind, or does not fit.
    """
    hf_config = load_config(config) if config.name_or_path else new_config(config, vocab_size)
    set_dropout(hf_config, config)
    name = config.name_or_path or "the new encoder"
    check_vocabulary(hf_config, name, vocab_size, tokenizer)
    if most_pieces(hf_config) < max_pieces:
        raise UserError(
            f"encoder {name} has {most_pieces(hf_config)} positions, the shards hold sentences of up to {max_pieces} "
            "pieces: build the shards with a smaller --max-pieces"
        )
    return hf_config


def check_encoder_kind(config: EncoderConfig) -> None:
    """Refuse a named encoder of another kind, before its tokenizer is looked at.

    Raises:
        UserError: it cannot be found or is of another kind.
    """
    architecture_of(load_config(config))


def build_sentence_encoder(
    config: EncoderConfig, compute: ComputeConfig, hf_config: PretrainedConfig
) -> SentenceEncoder:
    """The encoder that a run begins with: loaded or new, computed as the run says; not compiled yet."""
    tell_how_it_runs(hf_config)
    if config.name_or_path:
        encoder = load_sentence_encoder(config.name_or_path, hf_config, packed=compute.packed)
    else:
        encoder = new_sentence_encoder(hf_config, packed=compute.packed)
    if compute.checkpoint_activations:
        encoder.checkpoint_activations()
    return encoder


def tell_how_it_runs(hf_config: PretrainedConfig) -> None:
    """A line in the log if an encoder's layers cannot run packed."""
    if not architecture_of(hf_config).packed:
        _logger.info("encoder: %s", how_it_runs(hf_config))


def new_sentence_encoder(hf_config: PretrainedConfig, *, packed: bool = True) -> SentenceEncoder:
    """An encoder of the given sizes with new weights."""
    model = _auto_model().from_config(hf_config, **_built_with(hf_config))
    return SentenceEncoder(model, packed=packed)


def load_sentence_encoder(name_or_path: str, hf_config: PretrainedConfig, *, packed: bool = True) -> SentenceEncoder:
    """The encoder of a Hugging Face name or folder, in fp32.

    Raises:
        UserError: weights are missing there or have another shape.
    """
    return load_sentence_encoder_strictly(name_or_path, hf_config, packed=packed)[0]


def load_sentence_encoder_strictly(
    name_or_path: str, hf_config: PretrainedConfig, *, packed: bool = True
) -> tuple[SentenceEncoder, list[str]]:
    """The encoder of a Hugging Face name or folder, in fp32, and the names of weights there that it has no place for.

    Raises:
        UserError: weights are missing there or have another shape: transformers would make new ones without a word.
    """
    with quiet_transformers():
        try:
            model, info = _auto_model().from_pretrained(
                name_or_path,
                config=hf_config,
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,  # no pickles
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are reported with the missing ones
                **_built_with(hf_config),
            )
        except OSError as error:
            raise UserError(
                f"encoder {name_or_path}: cannot read model.safetensors there ({reason_of(error)}); pickled weights "
                "(pytorch_model.bin) are not read: save them as safetensors"
            ) from error
        except (SafetensorError, ValueError, RuntimeError, KeyError) as error:  # the last: of odd sizes
            raise UserError(f"encoder {name_or_path} cannot be loaded ({reason_of(error)})") from error
    missing = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if missing:
        raise UserError(
            f"encoder {name_or_path} lacks {len(missing)} of the weights of its configuration, or has them in another "
            f"shape, such as {missing[0]}: name a complete encoder"
        )
    return SentenceEncoder(model, packed=packed), sorted(info["unexpected_keys"])


def load_to_predict(folder: Path) -> SentenceEncoder:
    """The encoder of a model's folder, in fp32 or as exported, for predicting: without transformers if it can be.

    Raises:
        UserError: weights are missing there or have another shape.
        ModuleNotFoundError: it was exported for ONNX Runtime, which is not installed.
    """
    found = load_exported_encoder(folder) or load_plain_encoder(folder)
    return load_saved_encoder(folder) if found is None else SentenceEncoder(found)


def load_saved_encoder(folder: Path) -> SentenceEncoder:
    """The encoder of a model's folder, in fp32, for training.

    Raises:
        UserError: weights are missing there or have another shape.
    """
    from transformers import AutoConfig

    return load_sentence_encoder(str(folder), AutoConfig.from_pretrained(folder, trust_remote_code=False))


def add_rows(encoder: SentenceEncoder, rows: int) -> None:
    """Give the word embeddings this many rows if they have fewer; new ones are drawn as BERT's are."""
    if rows > encoder.model.config.vocab_size:
        with quiet_transformers():
            encoder.model.resize_token_embeddings(rows, mean_resizing=False)


def save_sentence_encoder(encoder: SentenceEncoder, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write what `AutoModel` reads, with all weights that it looks for, into an existing folder.

    AutoModel builds a pooler, which no objective trains: were there none to load, it would make a random one and report
    it. This one keeps the state of [CLS] as it is, for the pooler's tanh.

    Args:
        encoder: with its configuration.
        folder: to write to.
        weights: weights of the Hugging Face model, by name; None: the encoder's own.
    """
    weights = dict(encoder.model.state_dict() if weights is None else weights)
    if architecture_of(encoder.model.config).pooler:
        weights["pooler.dense.weight"] = torch.eye(encoder.hidden_size)
        weights["pooler.dense.bias"] = torch.zeros(encoder.hidden_size)
    with quiet_transformers():
        encoder.model.save_pretrained(folder, state_dict=weights)


def save_tokenizer(word_pieces: WordPieces, encoder: SentenceEncoder, folder: Path) -> None:
    """Write what `AutoTokenizer` reads for an encoder: `truncation=True` cuts to its positions."""
    word_pieces.save(folder, max_pieces=encoder.max_pieces, token_types=encoder.token_types > 1)


def _auto_model() -> Any:
    """The class that knows our attention then; on use, as its import takes longer than a short prediction."""
    from transformers import AttentionInterface, AutoModel

    AttentionInterface.register(NAME, packed_attention)
    return AutoModel


def _built_with(hf_config: PretrainedConfig) -> dict[str, Any]:
    architecture = architecture_of(hf_config)
    without_pooler = {"add_pooling_layer": False} if architecture.pooler else {}
    return {"attn_implementation": NAME if architecture.packed else "eager", **without_pooler}
