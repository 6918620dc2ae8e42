"""Tasks whose items are predicted each for itself, and read by `spe predict` from the files that fine-tuning reads."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar

import torch

from data_shards.errors import UserError
from data_shards.input.stream import STANDARD_INPUT, check_is_file
from data_shards.text.offset_units import OffsetUnit
from spe_dist.engine.machine import find_device
from spe_dist.finetuning.batches_of_rows import batches_of_rows
from spe_dist.finetuning.scoring import Item
from spe_dist.finetuning.task import Batches, D, Task

LOGGER = logging.getLogger(__name__)

PORTION = 1024  # items that are read, encoded and predicted at a time


class ItemTask(Task[Item, D]):
    """A task whose rows have `batch` and `is_cut`; without settings (`None`) it loads models and predicts."""

    reads_offsets: ClassVar[bool] = False
    """Whether files to predict may give offsets in a text."""

    @abstractmethod
    def read_unlabelled(self, path: Path, *, language: str, offsets: OffsetUnit) -> Iterator[Item]:
        """Items to predict, one at a time; they need no labels.

        Args:
            path: the file; `-` is standard input.
            language: whose rules cut raw text into words (a spaCy language code).
            offsets: what offsets in a text count.

        Raises:
            UserError: it cannot be read.
        """

    @abstractmethod
    def of_text(self, text: str, description: D) -> Item:
        """The item that a text is; raises a UserError if it is none."""

    @abstractmethod
    def predict(self, model: Any, rows: Any, device: torch.device, *, batch_size: int = 256) -> list[Item]:
        """The same as in `Task`, with at most `batch_size` rows in a forward."""

    def shown(self, item: Item, description: D) -> dict[str, Any]:
        """A predicted item as `spe predict` writes it."""
        return self.scoring.to_json(item)

    def batches(self, rows: Any, epoch: int | None, device: torch.device) -> Batches:
        """What makes batches, in every epoch alike."""
        return lambda numbers: rows.batch(numbers, device)

    def predicted(
        self,
        folder: Path,
        files: Sequence[str],
        text: str | None,
        *,
        offsets: OffsetUnit = "characters",
        device: str | None = None,
        batch_size: int = 256,
    ) -> Iterator[dict[str, Any]]:
        """What `spe predict` writes: the items of files with what a model predicts for them, in their order.

        `PORTION` items are in memory at a time.

        Args:
            folder: folder of the model, which computes in bf16 on a GPU, as in fine-tuning.
            files: to read one after another; `-` is standard input.
            text: to read instead.
            offsets: what offsets in a text count.
            device: "cpu", "cuda", …; None: a GPU if there is one.
            batch_size: most rows of a forward.

        Raises:
            UserError: the model or a file cannot be read, or there is no such device.
        """
        if offsets != "characters" and not self.reads_offsets:
            raise UserError(f"--offsets {offsets}: what {folder} reads has no offsets in a text: remove it")
        for file in files:
            if file != STANDARD_INPUT:
                check_is_file(file)
        description = self.read_description(folder)
        read = (self.read_unlabelled(Path(file), language=description.language, offsets=offsets) for file in files)
        items: Iterator[Item] = chain.from_iterable(read)
        if text is not None:
            items = iter([self.of_text(text, description)])
        place = find_device(device)
        model, word_pieces = self.load(folder)
        model = model.to(place, torch.bfloat16 if place.type == "cuda" else torch.float32)
        count = cut = 0
        while portion := list(islice(items, PORTION)):
            rows = self.encode(portion, model, word_pieces)
            count, cut = count + len(portion), cut + int(rows.is_cut.sum())
            for item in self.predict(model, rows, place, batch_size=batch_size):
                yield self.shown(item, description)
        if not count:
            raise UserError(f"{', '.join(files)} holds no {self.scoring.items}: there is nothing to predict")
        if cut:
            LOGGER.warning(
                "%s of %s %s are longer than the model reads: parts of them were left out",
                f"{cut:,}", f"{count:,}", self.scoring.items,
            )  # fmt: skip


class RowPerItemTask(ItemTask[Item, D]):
    """One whose rows are items, one each; those of extractive question answering are windows."""

    @abstractmethod
    def predict_batch(self, model: Any, items: Sequence[Item], *batch: Any) -> Iterable[Item]:
        """Items as a model sees them; batch is what a forward of them takes."""

    @torch.no_grad()
    def predict(self, model: Any, rows: Any, device: torch.device, *, batch_size: int = 256) -> list[Item]:
        """Batches of rows of about equal length, each by `predict_batch`."""
        found: list[Any] = [None] * len(rows.items)  # not the items themselves: they may be gold
        for numbers in batches_of_rows(rows.num_pieces, batch_size=batch_size):
            items = [rows.items[number] for number in numbers.tolist()]
            predicted = self.predict_batch(model, items, *rows.batch(numbers, device))
            for number, item in zip(numbers.tolist(), predicted, strict=True):
                found[number] = item
        return found
