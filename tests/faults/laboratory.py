"""Where faults are tried: a dataset, runs with folders of their own, and runs that are left alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.exactness.runs import configure
from tests.faults.forked_runs import ForkedRuns
from tests.faults.trials import (
    Trial,
    Verdict,
)
from tests.unit.spe_dist.random_documents import write_documents
from tests.unit.spe_dist.tiny_run import write_dataset

STEPS = 60
EVERY = 3  # steps between checkpoints
DEBUG = {  # the debug recipe's own sizes, on 2 ranks
    "encoder": {"layers": 2, "hidden_size": 128, "heads": 4, "intermediate_size": 512},
    "batch": {"lanes": 8, "lane_size": 8, "lanes_per_forward": 4},
    "span_encoder": {"channels": 100, "size": 300},
    "pair_encoder": {"attention_size": 500, "position_size": 100},
    "tbo": {"offset_size": 200},
    "cspo": {"queue_size": 4096, "momentum": 0.99},
}


@dataclass(frozen=True)
class Tried:
    """One run that something was done to.

    Args:
        faults: how many.
        trials: those that a start came after.
        verdict: on the run as it was in the end.
        said: the line in which the command ended, for faults that it cannot get over by itself.
    """

    faults: int
    trials: list[Trial]
    verdict: Verdict
    said: str | None = None


class Laboratory:
    """A dataset, a folder for runs, and runs that are left alone to compare with.

    Args:
        folder: for all of it.
        seed: of victims and instants.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chooser = random.Random(seed)
        self._runs = 0
        self.shards = folder / "shards"
        if not self.shards.exists():
            write_dataset(self.shards, sentences=130)
            write_documents(self.shards.with_name("document_shards"), 130)

    def config(self, **overrides: Any) -> Any:
        """A run with a folder of its own."""
        self._runs += 1
        train = {"steps": STEPS, "checkpoint_every": EVERY, **overrides.pop("train", {})}
        return configure(self.shards, self.folder / f"runs-{self._runs}", train=train, **overrides)

    @cached_property
    def alone(self) -> Path:
        """A run of one rank that nothing happens to."""
        return self._complete(self.config())

    @cached_property
    def erica_alone(self) -> Path:
        """The same, of ERICA."""
        return self._complete(self.config(method="erica"))

    @cached_property
    def debug_alone(self) -> Path:
        """The same, of the debug recipe's sizes."""
        return self._complete(self.config(**DEBUG))

    def a_step(self, after: int = EVERY) -> int:
        """A random step of which a checkpoint came before, and which leaves some to be made."""
        return self.chooser.randint(after + 1, after + 2 * EVERY)

    def _complete(self, config: Any) -> Path:
        ForkedRuns(self.chooser, worlds=(1,)).complete(config, kills=0)
        return Path(config.run_folder)
