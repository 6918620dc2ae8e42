"""`spe COMMAND …`: every command of the project under one name."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version

from data_shards.errors import UserError
from launcher.extras import what_is_missing
from launcher.run_command import run_command

USAGE = """usage: spe COMMAND [arguments]      (spe COMMAND --help says more; spe --version)

  shards build|annotate|sentences|pair|info|show|verify|audit|train-vocab|sample-corpus   build and inspect shards
  data check|convert|split|wikihop-from-docred FILE …   check annotated data, convert them, or split them into parts
  kb convert SOURCE … --out FOLDER                      make a knowledge base for linking documents
  pretrain                                              pre-train (the same as python launcher/pretrain.py)
  finetune [TASK] --from RUN --train FILE --dev FILE    fine-tune a pre-trained encoder, by default into an extractor
  tune --from RUN --train FILE --dev FILE --grid SETTING=VALUES   tune settings on dev, the same trials for every start
  predict MODEL [FILE …] [--text TEXT]                  find entities and relations with a fine-tuned model
  suggest MODEL FILE … --count N                        pick the texts that are worth annotating next
  serve MODEL …                                         serve extractors over HTTP
  label-studio MODEL                                    answer Label Studio's requests for predictions
  compare-pretraining --config RECIPE                   pre-train variants, fine-tune all alike, compare their scores
  ablate                                                compare-pretraining with the ablations of the SPE paper
  slurm --config RECIPE --nodes N                       write a Slurm batch script for a run
  plan --config RECIPE                                  estimate memory per rank and traffic per step, by ZeRO stage
  doctor --config RECIPE                                check every node of the cluster before a run
  checkpoint list|verify RUN                            list a run's checkpoints, or verify every byte
  export RUN | MODEL --format onnx|int8                 export a run for Hugging Face, or an extractor for fast CPUs
  push FOLDER USER/MODEL                                share a model on the Hugging Face hub, without pickles
  probe RUN --shards DIR | --documents FILE             test whether vectors encode words or relations, untuned
  embeddings RUN --documents FILE --out FOLDER          draw entity and pair vectors of documents, and measure clusters
  report RUN --out FOLDER                               write a run's curves, table and JSON summary
  compare RUN_A RUN_B                                   compare the scores of two fine-tuned runs
  runs diff A B                                         find the first difference between two runs
  bench CASE …                                          benchmark parts against a baseline

With --json, a command whose result is a table prints it as JSON; all other messages go to standard error.
"""
COMMANDS = {
    "shards": "launcher.shards",
    "data": "launcher.data",
    "kb": "launcher.kb",
    "pretrain": "launcher.pretrain",
    "finetune": "launcher.finetune",
    "tune": "launcher.tune",
    "predict": "launcher.predict",
    "suggest": "launcher.suggest",
    "serve": "launcher.serve",
    "label-studio": "launcher.label_studio",
    "compare-pretraining": "launcher.compare_pretraining",
    "ablate": "launcher.ablate",
    "slurm": "launcher.slurm",
    "plan": "launcher.plan",
    "doctor": "launcher.doctor",
    "checkpoint": "launcher.checkpoints",
    "export": "launcher.export",
    "push": "launcher.push",
    "probe": "launcher.probe",
    "embeddings": "launcher.embeddings",
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
        UserError: there is no such command, or it failed for a reason that the person can fix.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return
    if arguments[0] == "--version":
        sys.stdout.write(f"spe_dist {_version()}\n")
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}; the commands are: {', '.join(COMMANDS)}")
    # Imported on use: `spe shards` must not wait for torch, nor `spe export` for Ray.
    try:
        importlib.import_module(COMMANDS[name]).main(rest)
    except ModuleNotFoundError as error:
        missing = what_is_missing(error, f"spe {name}")
        if missing is None:
            raise
        raise UserError(missing) from error


def _version() -> str:
    try:
        return version("spe_dist")
    except PackageNotFoundError:  # a folder of sources that nothing has installed
        return "of a source folder that is not installed"


if __name__ == "__main__":
    main()
