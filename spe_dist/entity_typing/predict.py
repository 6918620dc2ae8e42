"""`spe predict` with a model of entity typing: files of its formats, with or without types → types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from spe_dist.entity_typing.formats import parse_tagged, read_mentions
from spe_dist.entity_typing.model import EntityTypingModel, TypingLabels
from spe_dist.entity_typing.scoring import EntityTypingScoring
from spe_dist.entity_typing.task import STEM, encode_for, predict
from spe_dist.entity_typing.typed_mention import TypedMention
from spe_dist.finetuning.predict_items import load_for_prediction, predict_items


def predicted(
    folder: Path, files: list[str], text: str | None, *, device: str | None, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Each mention in UFET's format with its types, and their probabilities as `scores`.

    Args:
        folder: of the model.
        files: to read one after another; `-` is standard input.
        text: a sentence with <e1>…</e1> around the mention to read instead.
        device: to compute on.
        batch_size: most mentions of a forward.

    Raises:
        UserError: the model or a file cannot be read.
    """
    model, word_pieces, place = load_for_prediction(
        folder, STEM, TypeAdapter(TypingLabels).validate_python, EntityTypingModel, device
    )
    language = model.labels.language
    mentions = [parse_tagged(text, language)] if text is not None else []
    for file in files:
        mentions += read_mentions(Path(file), language=language, labelled=False)

    def find(portion: Any) -> list[TypedMention]:
        return predict(model, encode_for(portion, model, word_pieces), place, batch_size=batch_size)

    yield from predict_items(mentions, find, EntityTypingScoring().to_json)
