"""`spe runs …`: what became of runs."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from data_shards.counted import counted
from data_shards.errors import UserError
from launcher.arguments import parse_arguments
from launcher.output import print_json
from spe_dist.train.run_diff import Comparison, compare_runs
from spe_dist.train.run_folder import CONFIG, VERSIONS, changed_settings


@dataclass(frozen=True)
class Diff:
    """Find the first step and quantity in which two runs differ: records, masks, queue, losses, then the checkpoint.

    Exit status 0 if they are equal, 2 if they differ, 1 if they cannot be compared.
    """

    first: tyro.conf.Positional[Path]
    """Folder of a run."""
    second: tyro.conf.Positional[Path]
    """Folder of another run."""
    rtol: float = 0.0
    """Tolerance for floats, relative to the larger value or, if that is below 1, absolute (learning rate and gradient
    norm: always relative). Use 1e-5 to compare runs with different numbers of ranks."""
    json: bool = False
    """Print JSON instead of lines."""


def main(argv: list[str]) -> None:
    """Run `spe runs` with the arguments after these two words.

    Raises:
        UserError: what the person asked for cannot be done.
        SystemExit: the runs differ.
    """
    if argv[:1] != ["diff"]:
        raise UserError("spe runs needs a subcommand: spe runs diff A B")
    command: Diff = parse_arguments(Diff, argv[1:], prog="spe runs diff")
    settings = [
        (file, *changed)
        for file in (CONFIG, VERSIONS)
        for changed in changed_settings(command.first, command.second, file=file)
    ]
    comparison = compare_runs(command.first, command.second, rtol=command.rtol)
    if command.json:
        changed = [dict(zip(("file", "setting", "first", "second"), one, strict=True)) for one in settings]
        print_json({"equal": comparison.difference is None, "settings": changed} | asdict(comparison))
    else:
        for file, key, one, other in settings:
            print(f"{file}: {key} is {one} and {other}")
        print(comparison_text(comparison, command.rtol))
    if comparison.difference:
        sys.exit(2)


def comparison_text(comparison: Comparison, rtol: float) -> str:
    """What two runs have in common, for people."""
    if comparison.difference:
        return f"first difference at {comparison.difference}"
    exactly = f"to {rtol:g}" if rtol else "bit for bit"
    logged = f"{counted(len(comparison.steps), 'logged step')}, {comparison.steps[0]} to {comparison.steps[-1]}"
    saved = (
        "" if comparison.checkpoint is None else f", and all tensors of the checkpoint of step {comparison.checkpoint}"
    )
    return f"equal {exactly}: {logged}{saved}"
