"""Reading encoders with transformers: quietly, without code that lies beside them, and with one line for a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data_shards.errors import UserError
from spe_dist.config import EncoderConfig
from spe_dist.models.architectures import SUPPORTED

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def load_config(config: EncoderConfig) -> PretrainedConfig:
    """The configuration of the encoder that is named.

    Raises:
        UserError: there is none, or it comes with code.
    """
    from transformers import AutoConfig  # on use: the import takes longer than a short prediction

    try:
        return AutoConfig.from_pretrained(config.name_or_path, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # the last three: odd values in it
        if "trust_remote_code" in str(error):
            raise UserError(
                f"encoder.name_or_path: {config.name_or_path} comes with code of its own (as NeoBERT does), which is "
                f"never run here: name an encoder that transformers itself knows ({SUPPORTED})"
            ) from error
        kind = "folder" if Path(str(config.name_or_path)).exists() else "folder, and no model of that name was reached"
        raise UserError(
            f"encoder.name_or_path: cannot load {config.name_or_path!r}: not an encoder {kind} ({reason_of(error)})"
        ) from error


def reason_of(error: Exception) -> str:
    """What another library's message begins with; its advice comes behind."""
    first_line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return first_line.split(". ")[0].rstrip(".")


def new_config(config: EncoderConfig, vocab_size: int) -> PretrainedConfig:
    """Configuration of a new BERT."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_positions,
        type_vocab_size=1,
    )


def check_vocabulary(hf_config: PretrainedConfig, name: str, vocab_size: int, tokenizer: str | None) -> None:
    """Refuse an encoder that knows fewer pieces than the shards or, if one is named, its tokenizer."""
    if hf_config.vocab_size >= vocab_size:
        return
    if tokenizer is None:
        raise UserError(
            f"encoder {name} knows {hf_config.vocab_size} pieces, the shards were built with {vocab_size}: "
            "build the shards with this encoder's tokenizer (spe shards build --tokenizer ...)"
        )
    raise UserError(
        f"encoder {name} knows {hf_config.vocab_size} pieces, but its tokenizer {tokenizer} has {vocab_size}: name the "
        "tokenizer that the encoder was trained with (start.tokenizer)"
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No report about the pooler and heads that are left out on purpose, and no progress bars."""
    from transformers.utils import logging as transformers_logging

    verbosity, progress_bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if progress_bar:
            transformers_logging.enable_progress_bar()
