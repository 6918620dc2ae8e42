"""Reading encoders with transformers: quietly, without code that lies beside them, and with one line for a mistake."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from data_shards.errors import UserError
from spe_dist.config import EncoderConfig
from spe_dist.models.architectures import SUPPORTED


def load_config(config: EncoderConfig) -> PretrainedConfig:
    """The configuration of the encoder that is named.

    Raises:
        UserError: there is none, or it comes with code.
    """
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


class quiet_transformers:
    """No report about the pooler and heads that are left out on purpose, and no progress bars."""

    def __enter__(self) -> None:
        self.verbosity = transformers_logging.get_verbosity()
        self.progress_bar = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        transformers_logging.set_verbosity(self.verbosity)
        if self.progress_bar:
            transformers_logging.enable_progress_bar()
