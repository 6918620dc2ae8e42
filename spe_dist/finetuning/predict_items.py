"""Items of a file → what a fine-tuned model of a task predicts for them, as objects of JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from spe_dist.engine.machine import find_device
from spe_dist.finetuning.model_folder import load_model
from spe_dist.finetuning.model_stem import read_description

PORTION = 4096  # items that are encoded and predicted at a time


def predict_items(
    items: Sequence[Any], find: Callable[[Sequence[Any]], list[Any]], to_json: Callable[[Any], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The items as predicted, in their order.

    Args:
        items: to predict.
        find: predicts some of them.
        to_json: makes an object of one.
    """
    rest = iter(items)
    while portion := list(islice(rest, PORTION)):
        yield from map(to_json, find(portion))


def load_for_prediction(
    folder: Path, stem: str, describe: Callable[[Any], Any], build: Callable[[Any, Any], Any], device: str | None
) -> tuple[Any, Any, torch.device]:
    """A model in evaluation mode on its device, bf16 on a GPU as in fine-tuning, with its tokenizer and device.

    Args:
        folder: of the model.
        stem: of the task.
        describe: makes a description of the values in STEM.json.
        build: makes the model of an encoder and a description.
        device: "cpu", "cuda", …; None: a GPU if there is one.

    Raises:
        UserError: it is damaged, or there is no such device.
    """
    description = describe(read_description(folder, stem))
    model, word_pieces = load_model(
        folder, stem, lambda encoder: build(encoder, description), language=description.language
    )
    place = find_device(device)
    model = model.to(place, torch.bfloat16 if place.type == "cuda" else torch.float32)
    return model, word_pieces, place
