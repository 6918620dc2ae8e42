"""The data of a fine-tuning: what it learns from, chooses the epoch by, and is tested on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from data_shards.errors import UserError
from data_shards.input.stream import STANDARD_INPUT
from spe_dist.finetuning.scoring import Item
from spe_dist.finetuning.start import language_of_start
from spe_dist.finetuning.task import D, Task


@dataclass(frozen=True)
class Data(Generic[Item, D]):
    """What a fine-tuning reads.

    Args:
        description: labels of the whole training data, and what else rebuilds a model.
        train: the items to learn from.
        dev: decides which epoch is the best.
        test: looked at when training is over.
        chosen: numbers of `train` among the training data.
        available: items of the training data.
    """

    description: D
    train: list[Item]
    dev: list[Item]
    test: list[Item] | None
    chosen: list[int]
    available: int


def read_data(task: Task[Item, D]) -> Data[Item, D]:
    """Read what the configuration names; labels are those of the whole training data.

    Raises:
        UserError: a file cannot be read, or holds nothing to learn from.
    """
    config = task.config
    language = language_of_start(config)
    files = {part: path for part in ("train", "dev", "test") if (path := getattr(config.data, part)) is not None}
    for part, path in files.items():
        if path != STANDARD_INPUT and not Path(path).exists():
            raise UserError(f"{path}: no such file: name the file to use (--{part} FILE)")
    read = {part: _read(task, path, language) for part, path in files.items()}
    train, dev = (read["train"], read["dev"]) if "dev" in read else task.split(read["train"])
    dev = task.mark(dev, train)
    test = task.mark(read["test"], train) if "test" in read else None
    chosen = task.choose(train)
    learned = [train[number] for number in chosen]
    description = task.describe(train, learned, language=language)
    return Data(description, learned, dev, test, chosen, len(train))


def about_data(task: Task[Item, D], data: Data[Item, D]) -> list[str]:
    """How many items, and what the task says of them, for people."""
    items = task.scoring.items
    part = "" if len(data.train) == data.available else f" (of {data.available})"
    test = f"no test {items}" if data.test is None else f"{len(data.test)} to test"
    return [
        f"{len(data.train)} {items} to learn from{part}, {len(data.dev)} to choose the best epoch, {test}",
        *task.about_data(data),
        *_learned_and_tested(task, data),
    ]


def _learned_and_tested(task: Task[Item, D], data: Data[Item, D]) -> Iterator[str]:
    learned = {question for item in data.train if (question := task.question(item)) is not None}
    for name, items in (("dev", data.dev), ("test", data.test or [])):
        if shared := sum(task.question(item) in learned for item in items):
            yield (
                f"warning: {shared:,} of {len(items):,} {name} {task.scoring.items} {task.alike}, which makes "
                "scores too good: remove them from one of the two files, or split the data anew (spe data split)"
            )


def _read(task: Task[Item, D], path: str, language: str) -> list[Item]:
    if path == STANDARD_INPUT:
        raise UserError("fine-tuning reads its data more than once, which standard input (-) cannot be: name a file")
    items: Sequence[Item] = task.read(Path(path), language=language)
    if not items:
        raise UserError(f"{path} holds no {task.scoring.items}: name another file")
    return list(items)
