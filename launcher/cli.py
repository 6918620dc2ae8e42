"""`spe COMMAND …`: every command of the project under one name."""

from __future__ import annotations

import importlib
import sys

from data_shards.errors import UserError
from launcher.run_command import run_command

USAGE = """usage: spe COMMAND [arguments]      (spe COMMAND --help says more)

  shards build|annotate|show|verify|train-vocab|sample-corpus   text to shards, and what is in them
  data check|convert FILE …                             annotated sentences: what they hold, and in one format
  pretrain                                              train (the same as python launcher/pretrain.py)
  finetune --from RUN --train FILE --dev FILE           turn a pre-trained encoder into an extractor
  tune --from RUN --train FILE --dev FILE --grid SETTING=VALUES   settings chosen on dev, equally for every start
  predict MODEL [FILE …] [--text TEXT]                  entities and relations of raw text
  ablate --shards DIR --train FILE --dev FILE --test FILE   the SPE paper's ablations, from pre-training to a table
  slurm --config RECIPE --nodes N                       a batch script for Slurm that runs it
  plan --config RECIPE                                  memory of a rank and bytes of a step at each ZeRO stage
  doctor --config RECIPE                                every node of the cluster, examined before a run
  checkpoint list|verify RUN                            a run's checkpoints, and whether every byte is as it was written
  export RUN                                            a run as a Hugging Face folder
  probe RUN --shards DIR                                do its span pairs know words, or only places and lengths?
  report RUN --out FOLDER                               a run's curves as picture, table and JSON
  compare RUN_A RUN_B                                   scores of two fine-tuned runs, and whether they differ
  runs diff A B                                         the first step and field in which two runs differ
  bench CASE …                                          how fast parts are here, beside what they are compared with
"""
COMMANDS = {
    "shards": "launcher.shards",
    "data": "launcher.data",
    "pretrain": "launcher.pretrain",
    "finetune": "launcher.finetune",
    "tune": "launcher.tune",
    "predict": "launcher.predict",
    "ablate": "launcher.ablate",
    "slurm": "launcher.slurm",
    "plan": "launcher.plan",
    "doctor": "launcher.doctor",
    "checkpoint": "launcher.checkpoints",
    "export": "launcher.export",
    "probe": "launcher.probe",
    "report": "launcher.report",
    "compare": "launcher.compare",
    "runs": "launcher.runs",
    "bench": "launcher.bench",
}


def main() -> None:
    """Entry point of the `spe` program."""
    run_command(dispatch)


def dispatch(arguments: list[str]) -> None:
    """Run a command.

    Raises:
        UserError: there is no such command, or it failed for a reason that the person can mend.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}; these are: {', '.join(COMMANDS)}")
    # Imported on use: `spe shards` must not wait for torch, nor `spe export` for Ray.
    importlib.import_module(COMMANDS[name]).main(rest)


if __name__ == "__main__":
    main()
