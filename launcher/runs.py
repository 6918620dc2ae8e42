"""`spe runs …`: what became of runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from data_shards.errors import UserError
from launcher.arguments import parse_arguments
from spe_dist.train.run_diff import Comparison, compare_runs
from spe_dist.train.run_folder import CONFIG, VERSIONS, changed_settings


@dataclass(frozen=True)
class Diff:
    """Say at which step, and in what, two runs first differ: records, masks, queue, losses, then the checkpoint.

    Exit status 0 if they are equal, 2 if they differ, 1 if they cannot be compared.
    """

    first: tyro.conf.Positional[Path]
    """Folder of a run."""
    second: tyro.conf.Positional[Path]
    """Folder of another."""
    rtol: float = 0.0
    """Difference up to which floats count as equal, relative to the larger or, where that is below 1, absolute (but for
    learning rate and gradient norm). Another number of ranks rounds differently: 1e-5."""


def main(argv: list[str]) -> None:
    """Run `spe runs` with the arguments after these two words.

    Raises:
        UserError: what the person asked for cannot be done.
        SystemExit: the runs differ.
    """
    if argv[:1] != ["diff"]:
        raise UserError("say what to do with runs: spe runs diff A B")
    command: Diff = parse_arguments(Diff, argv[1:], prog="spe runs diff")
    for file in (CONFIG, VERSIONS):
        for key, one, other in changed_settings(command.first, command.second, file=file):
            print(f"{file}: {key} is {one} and {other}")
    comparison = compare_runs(command.first, command.second, rtol=command.rtol)
    print(comparison_text(comparison, command.rtol))
    if comparison.difference:
        sys.exit(2)


def comparison_text(comparison: Comparison, rtol: float) -> str:
    """What two runs have in common, for people."""
    if comparison.difference:
        return f"first difference at {comparison.difference}"
    exactly = f"to {rtol:g}" if rtol else "bit for bit"
    logged = f"{len(comparison.steps)} logged steps, {comparison.steps[0]} to {comparison.steps[-1]}"
    saved = (
        "" if comparison.checkpoint is None else f", and all tensors of the checkpoint of step {comparison.checkpoint}"
    )
    return f"equal {exactly}: {logged}{saved}"
