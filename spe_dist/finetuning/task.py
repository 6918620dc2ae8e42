"""What the loop of fine-tuning knows of a task: how its data are read, and what its model is, learns and predicts.

    read      a file → items
    describe  items → labels and sizes: what, with weights, rebuilds a model
    build     what the weights begin as, and a description → a model, and a report of where its weights come from
    encode    items → rows of tensors, once; `batches` makes the arguments of a forward of some of them
    forward   of the model → the named losses (see losses.py)
    predict   rows → items as the model sees them
    scoring   gold and predicted items → scores, and what each item contributes to them

A task is a class derived from `Task` (or `ItemTask`, which serves `spe predict`, too), one derived from `Scoring`, a
configuration and a line in `spe_dist/tasks.py`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from data_shards.errors import UserError
from data_shards.ragged import IntArray
from data_shards.text.word_pieces import WordPieces
from spe_dist.finetuning.card import model_card
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.folder import Result
from spe_dist.finetuning.model_folder import load_model, save_model
from spe_dist.finetuning.model_stem import read_description
from spe_dist.finetuning.scoring import Item, Scoring
from spe_dist.finetuning.start import LoadReport, Part, Pretrained, load_weights
from spe_dist.finetuning.subsets import choose_fraction
from spe_dist.models.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    from spe_dist.finetuning.data import Data


class Description(Protocol):
    """Labels, sizes and whatever else rebuilds a model: a dataclass that JSON can hold."""

    @property
    def language(self) -> str:
        """Whose rules cut text into words (a spaCy language code)."""


class TaskModel(Protocol):
    """A module with a sentence encoder; its forward returns `Losses`."""

    sentence_encoder: SentenceEncoder


class Rows(Protocol):
    """Items as tensors; an item may be several rows."""

    num_pieces: NDArray[np.int64]  # [rows]

    def __len__(self) -> int:
        """How many rows."""


D = TypeVar("D", bound=Description)
Batches = Callable[[IntArray], tuple[Any, ...]]  # numbers of rows -> arguments of a forward


class Task(ABC, Generic[Item, D]):
    """A task with its settings.

    Args:
        config: configuration of the fine-tuning; None to load models and predict with them alone.
    """

    stem: ClassVar[str]
    """Names the files of its models: STEM.json and STEM.safetensors."""
    description: type[D]
    losses: ClassVar[tuple[str, ...]]
    """Names of the losses, in the order of `Losses`."""
    parts: ClassVar[Sequence[Part]] = ()
    """Modules of the model that pre-training trains as well."""
    heads: ClassVar[str] = "classifiers"
    """What the rest of the model is, in words."""
    alike: ClassVar[str] = "are learned from too"
    """What is said of items of dev and test whose `question` an item that is learned from has."""

    def __init__(self, config: Any) -> None:
        self.config: FinetuneConfig = config

    @property
    @abstractmethod
    def scoring(self) -> Scoring[Item]:
        """How its predictions are scored."""

    @abstractmethod
    def read(self, path: Path, *, language: str) -> list[Item]:
        """Items of a file; the language says how raw text is cut into words.

        Raises:
            UserError: the file cannot be read, or is damaged.
        """

    @abstractmethod
    def describe(self, available: Sequence[Item], learned: Sequence[Item], *, language: str) -> D:
        """The labels and sizes of a model.

        Args:
            available: the whole training data.
            learned: those of them that are learned from.
            language: language of the model.

        Raises:
            UserError: there is nothing to learn.
        """

    @abstractmethod
    def new_model(self, description: D, encoder: SentenceEncoder) -> Any:
        """A `TaskModel`; all but its sentence encoder is new."""

    @abstractmethod
    def encode(self, items: Sequence[Item], model: Any, word_pieces: WordPieces) -> Any:
        """Items as `Rows`."""

    @abstractmethod
    def batches(self, rows: Any, epoch: int | None, device: torch.device) -> Batches:
        """What makes the batches of an epoch, counted from 0; None to try how large the largest one is."""

    @abstractmethod
    def predict(self, model: Any, rows: Any, device: torch.device) -> list[Item]:
        """The items as a model in evaluation mode sees them; their annotation is not looked at."""

    def mark(self, items: list[Item], available: Sequence[Item]) -> list[Item]:
        """Items of dev or test with what their scores need to know of the whole training data."""
        return items

    def decide(self, gold: Sequence[Item], predicted: list[Item]) -> list[Item]:
        """Choose from predictions of dev in training those of a model whose decision is chosen on dev."""
        return predicted

    def question(self, item: Item) -> Hashable:
        """What must not be learned from and tested on: an item without its name and answer; None: not looked at."""
        return None

    def strata(self, item: Item) -> Collection[str]:
        """The labels of an item: a fraction of the training data keeps their mix."""
        return ()

    def choose(self, items: Sequence[Item]) -> list[int]:
        """Numbers of the items that `data.fraction` takes, rising."""
        return choose_fraction([self.strata(item) for item in items], self.config.data.fraction, self.config.run.seed)

    def split(self, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """The training data as those to learn from and dev, where no file of dev is given.

        Raises:
            UserError: the task asks for one.
        """
        raise UserError("data.dev is null: name the file that selects the best epoch (--dev FILE)")

    def build(self, start: Pretrained, description: D) -> tuple[Any, LoadReport]:
        """A model before its first update."""
        model = self.new_model(description, start.encoder)
        return model, self.load_weights(model, start, description, self.parts)

    def load_weights(self, model: nn.Module, start: Pretrained, description: D, parts: Sequence[Part]) -> LoadReport:
        """Give a new model the weights that it may begin with, and say which these are."""
        settings, refused = self.config.start, None
        if start.stem != self.stem or start.description is None:
            refused = "of another task"
        elif settings.no_cnn or not settings.keep_heads:
            refused = "start.no_cnn is set" if settings.no_cnn else "start.keep_heads is not set"
        elif not self.same_labels(start.description, description):
            refused = "it has other labels"
        return load_weights(model, start, parts, alone=settings.no_cnn, heads=self.heads, refused=refused)

    def same_labels(self, before: Mapping[str, Any], description: D) -> bool:
        """Whether the classifiers of a fine-tuned model tell apart what this model is to tell apart."""
        return before == json.loads(json.dumps(asdict(description)))  # type: ignore[call-overload]

    def epoch_metrics(self, epoch: int) -> dict[str, float]:
        """What the metrics of an epoch say besides losses and accuracies."""
        return {}

    def save(
        self, folder: Path, model: Any, description: D, word_pieces: WordPieces, weights: Mapping[str, Tensor]
    ) -> None:
        """Write a model, whole or not at all; weights are those of all parameters, by name, fp32."""
        save_model(folder, self.stem, model.sentence_encoder, description, word_pieces, weights)

    def load(self, folder: Path) -> tuple[Any, WordPieces]:
        """Read what `save` wrote, in fp32 and ready to predict.

        Raises:
            UserError: it cannot be read.
        """
        description = self.read_description(folder)
        return load_model(
            folder, self.stem, lambda encoder: self.new_model(description, encoder), language=description.language
        )

    def read_description(self, folder: Path) -> D:
        """Read the description of a model; raises a UserError if that is impossible."""
        try:
            return TypeAdapter(self.description).validate_python(read_description(folder, self.stem))
        except ValidationError as error:
            problem = error.errors()[0]
            what = f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}"
            raise UserError(f"{folder / f'{self.stem}.json'} is damaged ({what}): copy it again") from error

    def finish(
        self, folder: Path, model: Any, dev: Sequence[Item], find: Callable[[Sequence[Item]], list[Item]]
    ) -> None:
        """What is done to the best epoch's model, in memory and in its folder, before it predicts dev and test."""

    def keep(self, place: Path, seed: int, learned: Sequence[Item]) -> None:
        """Keep what `Scoring.training_facts` reads beside the predictions of a seed."""

    def diagnose(
        self, gold: Sequence[Item], predicted: Sequence[Item], learned: Sequence[Item]
    ) -> dict[str, float | None]:
        """What the scores do not say, in a few numbers for the result; None where one cannot be computed."""
        return {}

    def about_data(self, data: Data[Item, D]) -> list[str]:
        """What the data are and what is odd about them, for the log; a line that begins with "warning" is one."""
        return []

    def about_rows(self, rows: Any, description: D) -> list[str]:
        """What of the training data cannot be learned, for the log."""
        return []

    def card(self, data: Data[Item, D], result: Result, versions: Mapping[str, str]) -> str:
        """README.md of the model."""
        return model_card(self.config, data, result, versions)
