"""What the seeds of a run predicted, and what is true: files that can be scored again at any time.

    RUN/predictions/gold.jsonl      the test data
    RUN/predictions/seed-1.jsonl    the same items in the same order, as the model of seed 1 sees them

A line is an item, as `Scoring.to_json` says. A task may keep more there (see `Task.keep`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

from data_shards.errors import UserError
from data_shards.files import write_atomically
from data_shards.input.json_lines import parse_object
from spe_dist.finetuning.scoring import Item, Scoring

FOLDER = "predictions"
GOLD = "gold.jsonl"
_SEED = re.compile(r"seed-(\d+)\.jsonl")


@dataclass(frozen=True)
class RunPredictions(Generic[Item]):
    """The test data of a run, and what each of its seeds predicted for them.

    Args:
        name: name of the run.
        gold: the test data.
        by_seed: seed → the same items as predicted; in the order of the seeds.
        training_facts: seed → what is kept of its training data; none of runs that have kept nothing.
    """

    name: str
    gold: list[Item]
    by_seed: dict[int, list[Item]]
    training_facts: dict[int, Any] = field(default_factory=dict)

    def of_seeds(self, seeds: Collection[int]) -> RunPredictions[Item]:
        """The same run without its other seeds."""
        by_seed, facts = (
            {seed: of_seed for seed, of_seed in each.items() if seed in seeds}
            for each in (self.by_seed, self.training_facts)
        )
        return replace(self, by_seed=by_seed, training_facts=facts)


def write_gold(scoring: Scoring[Item], run: Path, items: Sequence[Item]) -> None:
    """Write the test data of a run."""
    _write(run / FOLDER / GOLD, scoring, items)


def write_predictions(scoring: Scoring[Item], run: Path, seed: int, items: Sequence[Item]) -> None:
    """Write what the model of a seed predicted: the items of the test data, in their order."""
    _write(run / FOLDER / f"seed-{seed}.jsonl", scoring, items)


def read_run(scoring: Scoring[Item], run: Path) -> RunPredictions[Item]:
    """Read the test data of a run and the predictions of all its seeds.

    Raises:
        UserError: there are none, or a line is damaged.
    """
    folder, paths = run / FOLDER, require_predictions(run)
    facts = {seed: scoring.training_facts(folder, seed) for seed in paths}
    return RunPredictions(
        run.resolve().name,
        read_items(scoring, folder / GOLD),
        {seed: read_items(scoring, path) for seed, path in paths.items()},
        {seed: of_seed for seed, of_seed in facts.items() if of_seed is not None},
    )


def require_predictions(run: Path) -> dict[int, Path]:
    """Files of a run's predictions by seed, rising.

    Raises:
        UserError: there are none.
    """
    folder = run / FOLDER
    found = [(match, path) for path in folder.glob("*.jsonl") if (match := _SEED.fullmatch(path.name))]
    if not found or not (folder / GOLD).is_file():
        on_dev = run / "dev" / FOLDER / GOLD
        hint = f"; {on_dev.parent.parent} has those on dev" if on_dev.is_file() else ""
        raise UserError(
            f"no predictions in {run}: fine-tuning writes {FOLDER}/{GOLD} and {FOLDER}/seed-*.jsonl into a run's "
            f"folder if it is given test data{hint}"
        )
    return dict(sorted((int(match[1]), path) for match, path in found))


def read_items(scoring: Scoring[Item], path: Path) -> list[Item]:
    """Read a file of gold or predicted items.

    Raises:
        UserError: a line is none.
    """
    items = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                items.append(scoring.from_json(parse_object(line.decode()), number - 1))
            except (ValueError, KeyError, TypeError) as error:
                what = f"no field {error}" if isinstance(error, KeyError) else str(error)
                raise UserError(f"{path}, line {number}: {what}: write the file again") from error
    return items


def _write(path: Path, scoring: Scoring[Item], items: Sequence[Item]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(scoring.to_json(item), ensure_ascii=False) + "\n" for item in items)
    write_atomically(path, "".join(lines).encode())
