"""A fine-tuned model as a folder: all that rebuilds it, without pickles.

config.json, model.safetensors         the sentence encoder, as `transformers.AutoModel` loads it
tokenizer.json, tokenizer_config.json  its tokenizer, as `transformers.AutoTokenizer` loads it
STEM.safetensors, STEM.json            all other weights; labels and sizes (STEM names the task, such as "extractor")
README.md                              the model card, written when the run is over
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_shards.errors import UserError
from data_shards.text.word_pieces import MAX_KNOWN_CHUNKS, WordPieces
from spe_dist.export.export_run import written_whole
from spe_dist.models.saved_encoder import load_saved_encoder, load_to_predict, save_sentence_encoder, save_tokenizer
from spe_dist.models.sentence_encoder import SentenceEncoder

_ENCODER = "sentence_encoder."


def save_model(
    folder: Path,
    stem: str,
    encoder: SentenceEncoder,
    description: Any,
    word_pieces: WordPieces,
    weights: Mapping[str, Tensor],
) -> None:
    """Write a model, whole or not at all; an older one there is replaced.

    Args:
        folder: to write.
        stem: file stem of the task.
        encoder: gives its configuration.
        description: a dataclass, of the model.
        word_pieces: tokenizer of the sentence encoder.
        weights: weights of all parameters of the model, by name, fp32.

    Raises:
        UserError: it cannot be written.
    """
    prefix = f"{_ENCODER}model."
    of_encoder = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    rest = {name: weight.contiguous() for name, weight in weights.items() if not name.startswith(prefix)}
    with written_whole(folder) as unfinished:
        save_sentence_encoder(encoder, unfinished, of_encoder)
        save_file(rest, unfinished / f"{stem}.safetensors")
        save_tokenizer(word_pieces, encoder, unfinished)
        (unfinished / f"{stem}.json").write_bytes(as_json(description))
        for file in unfinished.iterdir():  # safetensors' own are for their owner only
            shutil.copymode(unfinished / f"{stem}.json", file)


def as_json(description: Any) -> bytes:
    """A description as it lies in the folder."""
    return (json.dumps(asdict(description), indent=2, ensure_ascii=False) + "\n").encode()


def load_model(
    folder: Path,
    stem: str,
    build: Callable[[SentenceEncoder], nn.Module],
    *,
    language: str,
    max_known_chunks: int = MAX_KNOWN_CHUNKS,
) -> tuple[Any, WordPieces]:
    """Read what `save_model` wrote, in fp32 and ready to predict.

    Args:
        folder: folder of the model.
        stem: file stem of the task.
        build: makes the model, whose weights are then replaced.
        language: language of the description.
        max_known_chunks: maximum size of the tokenizer's table.

    Raises:
        UserError: it is damaged.
    """
    try:
        encoder, word_pieces, weights = _read(folder, stem, language, max_known_chunks, load_to_predict)
        model = build(encoder)
        model.load_state_dict(weights | {f"{_ENCODER}{name}": weight for name, weight in encoder.state_dict().items()})
    except (UserError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, stem, error) from error
    return model.requires_grad_(False).eval(), word_pieces


def read_parts(folder: Path, stem: str, *, language: str) -> tuple[SentenceEncoder, WordPieces, dict[str, Tensor]]:
    """Sentence encoder, tokenizer and all other weights by name, whatever model they make up.

    Raises:
        UserError: it is damaged.
    """
    try:
        return _read(folder, stem, language)
    except (UserError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, stem, error) from error


def _read(
    folder: Path,
    stem: str,
    language: str,
    max_known_chunks: int = MAX_KNOWN_CHUNKS,
    load_encoder: Callable[[Path], SentenceEncoder] = load_saved_encoder,
) -> tuple[SentenceEncoder, WordPieces, dict[str, Tensor]]:
    word_pieces = WordPieces.load(str(folder), language=language, max_known_chunks=max_known_chunks)
    encoder = load_encoder(folder)
    return encoder, word_pieces, load_file(folder / f"{stem}.safetensors")


def _damaged(folder: Path, stem: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{folder} is not a complete {stem} ({reason}): copy it again, or fine-tune again")
