import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def kills(request):
    """How many times to kill, roughly: few in CI, many in `make faults`."""
    return request.config.getoption("--kills")


@pytest.fixture(scope="module")
def fault_report(request):
    """A list of {"fault", "tried", "recovered", "steps_lost_max", "batches_lost_or_repeated", "seconds_median",
    "seconds_max"}, null where it does not apply; written to --faults-report, one JSON file per test module."""
    rows = []
    yield rows
    folder = request.config.getoption("--faults-report")
    if folder and rows:
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = request.module.__name__.rpartition(".")[2].removeprefix("test_")
        Path(folder, f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
