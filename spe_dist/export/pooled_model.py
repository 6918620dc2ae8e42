"""Any encoder as a model whose vectors are means of its states: what a run without fine-tuning is compared by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_shards.text.word_pieces import WordPieces
from spe_dist.config import EncoderConfig
from spe_dist.export.export_format import DESCRIPTION, Description
from spe_dist.export.export_run import TrainedRun, load_model
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.models.saved_encoder import load_sentence_encoder, resolve_encoder_config
from spe_dist.train.run_folder import CONFIG


def load_pooled_model(name: str) -> tuple[SpanPairModel, str]:
    """The sentence encoder of a run, an export or a Hugging Face encoder, with vectors that are pooled.

    Args:
        name: folder of a run or of an export, or folder or name of an encoder.

    Returns:
        The model, ready to encode documents, and what to call it.

    Raises:
        UserError: there is nothing of that name, its weights are not all there, or it is pooled in another way.
    """
    folder = Path(name)
    if (folder / CONFIG).is_file():
        model = load_model(TrainedRun.read(folder), "query")
    elif (folder / DESCRIPTION).is_file():
        model = SpanPairModel.from_pretrained(folder)
    else:
        return _of_encoder(name), name
    description, title = model.description, f"{name}, step {model.description.step:,}"
    if description.pooling is None:
        description = replace(
            description, span_encoder=None, context_encoder=None, pair_encoder=None, head_size=None, pooling="mean"
        )
        model = SpanPairModel(description, model.sentence_encoder, model.word_pieces)
    return model.requires_grad_(False).eval(), title


def _of_encoder(name: str) -> SpanPairModel:
    word_pieces = WordPieces.load(name)
    config = resolve_encoder_config(EncoderConfig(name_or_path=name), vocab_size=word_pieces.vocab_size, tokenizer=name)
    encoder = load_sentence_encoder(name, config)
    description = Description(
        method="none",
        weights="query",
        step=0,
        max_pieces=encoder.max_pieces,
        language=word_pieces.language,
        span_encoder=None,
        pair_encoder=None,
        head_size=None,
        normalize=False,
        pooling="mean",
    )
    return SpanPairModel(description, encoder, word_pieces).requires_grad_(False).eval()
