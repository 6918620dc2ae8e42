"""`spe checkpoint …`: which checkpoints a run has, and whether they are what was written."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from data_shards.counted import counted
from data_shards.errors import UserError
from launcher.arguments import parse_arguments
from launcher.output import print_json
from spe_dist.checkpoint.reader import CheckpointSummary, faults_of, is_there, list_checkpoints, read_summary, step_of
from spe_dist.text_table import text_table
from spe_dist.train.run_folder import CHECKPOINTS


@dataclass(frozen=True)
class List:
    """List a run's checkpoints, oldest first. Sizes are compared with the manifests; contents are not read."""

    run: tyro.conf.Positional[Path]
    """Folder of the run, which may be running."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Verify:
    """Read checkpoints and compare every file with its SHA-256. Exit status 1 if any is damaged."""

    run: tyro.conf.Positional[Path]
    """Folder of the run, which may be running."""
    step: tyro.conf.Positional[int | None] = None
    """Step of the checkpoint to read. Default: all."""
    json: bool = False
    """Print JSON instead of lines."""


Command = Annotated[List, tyro.conf.subcommand("list")] | Annotated[Verify, tyro.conf.subcommand("verify")]


def main(argv: list[str]) -> None:
    """Run `spe checkpoint` with the arguments after these two words."""
    command: Command = parse_arguments(Command, argv, prog="spe checkpoint", description=__doc__)
    checkpoints = _checkpoints(command.run)
    if isinstance(command, List):
        found = [summary for summary in map(read_summary, checkpoints) if summary is not None]
        if command.json:
            print_json([asdict(summary) for summary in found])
        else:
            print(_table(found))
    else:
        _verify(command, checkpoints)


def _checkpoints(run: Path) -> list[Path]:
    folder = run / CHECKPOINTS
    if not folder.is_dir():
        raise UserError(f"{run} is not a run: no folder {CHECKPOINTS} there; give the folder that `spe pretrain` made")
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise UserError(f"{run} has no finished checkpoint yet")
    return checkpoints


def _verify(command: Verify, checkpoints: list[Path]) -> None:
    if command.step is not None:
        checkpoints = [checkpoint for checkpoint in checkpoints if step_of(checkpoint) == command.step]
        if not checkpoints:
            raise UserError(f"{command.run} has no checkpoint of step {command.step}: `spe checkpoint list` shows all")
    found: dict[int, list[str]] = {}
    for checkpoint in checkpoints:
        faults = faults_of(checkpoint)
        if faults and not is_there(checkpoint):
            faults, line = [], "deleted by its run meanwhile"
        else:
            found[step_of(checkpoint)], line = list(faults), "; ".join(faults) or "every file is as it was written"
        if not command.json:
            print(f"{checkpoint.name}: {line}")
    if command.json:
        print_json([{"step": step, "faults": faults} for step, faults in found.items()])
    damaged = sum(map(bool, found.values()))
    if damaged:
        raise UserError(
            f"{command.run}: {damaged} of {counted(len(checkpoints), 'checkpoint')} damaged; a run skips them "
            "when it resumes, and they may be deleted"
        )


def _table(rows: list[CheckpointSummary]) -> str:
    header = ("step", "saved", "size", "ranks", "ZeRO", "state")
    cells = [
        (
            str(row.step),
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.saved_at)),
            f"{row.size / 1e6:,.1f} MB",
            "?" if row.world_size is None else str(row.world_size),
            "?" if row.zero_stage is None else str(row.zero_stage),
            row.fault or "complete",
        )
        for row in rows
    ]
    return text_table(header, cells, left=len(header))
