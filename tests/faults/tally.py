"""What all tries of one fault came to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.faults.laboratory import Tried


class Tally:
    """Adds up tries.

    Args:
        fault: its name.
    """

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._all: list[Tried] = []
        self.failures: list[str] = []
        self.tried = self.recovered = 0

    def add(self, tried: Tried) -> None:
        """Count a run: every fault in it, or itself if nothing had to be made up for."""
        faults = max(1, tried.faults)
        self._all.append(tried)
        self.tried += faults
        if tried.verdict.wrong is None:
            self.recovered += faults
        else:
            self.failures.append(tried.verdict.wrong)

    def add_failure(self, what: str) -> None:
        """Count a run that did not come to its end."""
        self.tried += 1
        self.failures.append(what)

    def row(self) -> dict:
        """Of the table; null where it does not apply."""
        trials = [trial for tried in self._all for trial in tried.trials]
        said = [tried.said for tried in self._all if tried.said]
        row = {
            "fault": self._fault,
            "tried": self.tried,
            "recovered": self.recovered,
            **_median_and_max("steps_lost", [trial.steps_lost for trial in trials]),
            "batches_lost_or_repeated": sum(tried.verdict.batches_lost_or_repeated for tried in self._all),
            **_median_and_max("seconds", [trial.seconds for trial in trials if trial.seconds is not None]),
            **_median_and_max("own_seconds", [trial.own_seconds for trial in trials if trial.own_seconds is not None]),
        }
        row |= {"said": said[-1]} if said else {}
        return row | ({"failures": self.failures} if self.failures else {})


def _median_and_max(name: str, values: Sequence[float]) -> dict[str, float | None]:
    return {
        f"{name}_median": round(statistics.median(values), 2) if values else None,
        f"{name}_max": round(max(values), 2) if values else None,
    }
