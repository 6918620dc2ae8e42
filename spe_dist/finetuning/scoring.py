"""How predictions of a task are kept and scored: by what each item contributes to each measure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_shards.errors import UserError
from spe_dist.finetuning.measures import Contributions, Measure

if TYPE_CHECKING:
    from spe_dist.finetuning.predictions import RunPredictions
    from spe_dist.finetuning.scored_run import ScoredRun

Item = TypeVar("Item")
ShownFacts = Mapping[Hashable, str]  # what makes a fact what it is → the fact in words


class ShownItem(NamedTuple):
    """A gold or predicted item for people.

    Args:
        text: without its annotation; it may have several lines. That of a predicted item is not looked at.
        facts: kind, in the plural → what is annotated or found; all items of a task have the same kinds. The first one
            decides which of two predictions is better, the next one where that is equal.
    """

    text: str
    facts: Mapping[str, ShownFacts]


class Scoring(ABC, Generic[Item]):
    """Reads, writes and scores predictions. What a task need not say has a default here; it may add to reports."""

    items: ClassVar[str] = "items"
    """What is scored, in the plural: sentences, documents, questions."""
    title: ClassVar[str]
    """What the measures are, above their table: micro F1, accuracy."""
    measures: ClassVar[Mapping[str, Measure]]
    """Name → value of summed contributions."""
    panels_note: ClassVar[str] = ""
    """What stands below the pictures of `panels`."""

    @abstractmethod
    def to_json(self, item: Item) -> dict[str, Any]:
        """A gold or predicted item as a line of a file."""

    @abstractmethod
    def from_json(self, values: dict[str, Any], number: int) -> Item:
        """An item from its line, counted from 0; raises ValueError, KeyError or TypeError if it is none."""

    @abstractmethod
    def contributions(self, gold: Sequence[Item], predicted: Sequence[Item]) -> dict[str, Contributions]:
        """What each item adds to each measure, [items, columns].

        Args:
            gold: true items.
            predicted: the same items in the same order, as a model sees them.

        Raises:
            UserError: the items are not the same.
        """

    def scores(self, gold: Sequence[Item], predicted: Sequence[Item]) -> dict[str, float]:
        """Each measure over all items, in 0..1."""
        found = self.contributions(gold, predicted)
        return {name: float(measure(found[name].sum(0))) for name, measure in self.measures.items()}

    def selection_score(self, scores: Mapping[str, float]) -> float:
        """Score that selects the best epoch, seed and trial on dev; it is 0 as long as no prediction is right."""
        return sum(scores.values())

    selection_text: ClassVar[str] = "the sum of all measures"
    """The same in words."""

    def is_defined(self, measure: str, sums: NDArray[np.int64]) -> bool:
        """Whether there is something in the gold data that the measure is a share of."""
        return True

    def check_same_gold(self, first: Sequence[Item], second: Sequence[Item]) -> None:
        """Raise a UserError unless two runs were tested on the same data."""
        if list(map(self.to_json, first)) != list(map(self.to_json, second)):
            raise UserError("the runs have different gold data: scores can only be compared on the same data")

    def with_symmetric(self, types: Sequence[str], gold: Sequence[Item]) -> Scoring[Item]:
        """The same, with types of relations whose direction is not looked at.

        Raises:
            UserError: there are no such types in the gold data.
        """
        raise UserError(f"--symmetric {' '.join(types)}: this task has no relations with a direction")

    def shown(self, item: Item) -> ShownItem:
        """A gold or predicted item as `spe compare --cases` shows it.

        Raises:
            UserError: the task does not say.
        """
        raise UserError(f"--cases: this task cannot show single {self.items}: remove --cases")

    def training_facts(self, folder: Path, seed: int) -> Any:
        """What a fine-tuning has kept of a seed's training data beside its predictions; None if it has not."""
        return None

    def details(self, run: RunPredictions[Item], contributions: Mapping[str, Contributions], resamples: int) -> Any:
        """What is found out about a run beside its measures; `tables`, `panels` and `run_json` show it."""
        return None

    def tables(self, runs: Sequence[ScoredRun]) -> list[str]:
        """Tables for below the overview of one run, or of two on the same data."""
        return []

    def panels(self) -> list[Callable[[Any, Sequence[ScoredRun]], None]]:
        """Pictures for beside the overview: each draws into axes of matplotlib."""
        return []

    def run_json(self, run: ScoredRun) -> dict[str, Any]:
        """What the report for programs says of a run beside its measures."""
        return {}

    def about_json(self) -> dict[str, Any]:
        """How was scored, for the same report."""
        return {}
