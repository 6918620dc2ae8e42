"""Do all faults to real runs, many times: does every run go on, and to the same end?

    python -m tests.faults --out docs            all of them; writes docs/data/faults.json and docs/faults.md
    python -m tests.faults --out docs --only head-killed --times 5

What was tried before stays in the JSON until the same fault is tried again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_shards.files import write_atomically
from spe_dist.versions import package_versions, this_machine
from tests.faults.catalogue import FAULTS, Fault
from tests.faults.laboratory import Laboratory
from tests.faults.page import page
from tests.faults.tally import Tally
from tests.unit.spe_dist.tiny_run import ROOT

_TESTS = {  # which report themselves (--faults-report)
    "kills-during-saves": "test_kills_during_saves.py",
    "disks-during-a-run": "test_disks_during_a_run.py",
}
_GIVE_UP_AFTER = 3  # failures of one fault


def main(arguments: list[str]) -> int:
    """Run; 1 if anything did not recover."""
    options = _parser().parse_args(arguments)
    names = options.only or [fault.key for fault in FAULTS] + list(_TESTS)
    path = options.out / "data" / "faults.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    laboratory = Laboratory(folder, options.seed)
    actions: dict[str, Callable[[], list[dict]]] = {
        fault.key: lambda fault=fault: [_try(fault, laboratory, options.times)] for fault in FAULTS
    }
    actions |= {name: lambda name=name: _run_tests(_TESTS[name], folder, options) for name in _TESTS}
    for name in names:
        began = time.monotonic()
        rows = actions[name]()
        for row in rows:
            if "said" in row:
                row["said"] = row["said"].replace(str(folder), "FOLDER")
        results[name] = {"where": _where(), "seconds": round(time.monotonic() - began), "rows": rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(results, indent=1).encode() + b"\n")
        write_atomically(options.out / "faults.md", page(results, [*actions]).encode())
    all_rows = [row for name in names for row in results[name]["rows"]]
    failed = [row["fault"] for row in all_rows if row["recovered"] < row["tried"]]
    if failed:
        _say(f"did not recover: {', '.join(failed)} (runs are in {folder})")
        return 1
    shutil.rmtree(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of data/faults.json and faults.md")
    names = [fault.key for fault in FAULTS] + list(_TESTS)
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--times", type=int, help="tries of each fault, in place of its own number")
    parser.add_argument("--kills", type=int, default=360, help="processes to kill in saves, roughly")
    parser.add_argument("--seed", type=int, default=0, help="of victims and instants")
    return parser


def _try(fault: Fault, laboratory: Laboratory, times: int | None) -> dict:
    """Try a fault so many times; what goes wrong is told, and tried further."""
    tally = Tally(fault.name)
    while tally.tried < (times or fault.times) and len(tally.failures) < _GIVE_UP_AFTER:
        try:
            for tried in fault.try_it(laboratory, (times or fault.times) - tally.tried):
                tally.add(tried)
                _say(f"{fault.key}: {tally.recovered} of {tally.tried} recovered")
        except Exception as error:  # whatever it is, the other faults are still to be tried
            tally.add_failure(repr(error))
            _say(f"{fault.key}: DID NOT RECOVER: {error!r}")
    return tally.row()


def _run_tests(file: str, folder: Path, options: argparse.Namespace) -> list[dict]:
    """Tests that write what they tried; a red one is a row too."""
    reports = folder / "reports"
    settings = ["--kills", str(options.kills), "--faults-report", str(reports)]
    command = [sys.executable, "-m", "pytest", str(Path(__file__).with_name(file)), *settings]
    _say(f"{file} …")
    status = subprocess.run(command, cwd=ROOT).returncode
    report = reports / f"{file.removeprefix('test_').removesuffix('.py')}.json"
    rows = json.loads(report.read_text()) if report.exists() else []
    return rows + ([{"fault": f"{file} failed", "tried": 1, "recovered": 0}] if status else [])


def _where() -> str:
    """Machine, packages and commit."""
    machine, versions = this_machine(), package_versions()
    packages = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "deepspeed", "ray"))
    called = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    place = f"{machine['cores']} cores of {machine['processor']}, {machine['system']}"
    return f"{place}; {packages}; commit {called.stdout.strip() or 'unknown'}"


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%T')} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
