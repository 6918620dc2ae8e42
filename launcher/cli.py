"""`spe COMMAND …`: every command of the project under one name."""

from __future__ import annotations

import sys
from collections.abc import Callable

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
    commands: dict[str, Callable[[], Callable[[list[str]], None]]] = {
        "shards": _shards,
        "data": _data,
        "pretrain": _pretrain,
        "finetune": _finetune,
        "tune": _tune,
        "predict": _predict,
        "ablate": _ablate,
        "slurm": _slurm,
        "plan": _plan,
        "doctor": _doctor,
        "checkpoint": _checkpoint,
        "export": _export,
        "probe": _probe,
        "report": _report,
        "compare": _compare,
        "runs": _runs,
        "bench": _bench,
    }
    name, *rest = arguments
    if name not in commands:
        raise UserError(f"there is no command {name!r}; these are: {', '.join(commands)}")
    commands[name]()(rest)


# Imported on use: `spe shards` must not wait for torch, nor `spe export` for Ray.
def _shards() -> Callable[[list[str]], None]:
    from launcher.shards import main

    return main


def _data() -> Callable[[list[str]], None]:
    from launcher.data import main

    return main


def _pretrain() -> Callable[[list[str]], None]:
    from launcher.pretrain import main

    return main


def _finetune() -> Callable[[list[str]], None]:
    from launcher.finetune import main

    return main


def _tune() -> Callable[[list[str]], None]:
    from launcher.tune import main

    return main


def _predict() -> Callable[[list[str]], None]:
    from launcher.predict import main

    return main


def _ablate() -> Callable[[list[str]], None]:
    from launcher.ablate import main

    return main


def _slurm() -> Callable[[list[str]], None]:
    from launcher.slurm import main

    return main


def _plan() -> Callable[[list[str]], None]:
    from launcher.plan import main

    return main


def _checkpoint() -> Callable[[list[str]], None]:
    from launcher.checkpoints import main

    return main


def _doctor() -> Callable[[list[str]], None]:
    from launcher.doctor import main

    return main


def _export() -> Callable[[list[str]], None]:
    from launcher.export import main

    return main


def _probe() -> Callable[[list[str]], None]:
    from launcher.probe import main

    return main


def _report() -> Callable[[list[str]], None]:
    from launcher.report import main

    return main


def _compare() -> Callable[[list[str]], None]:
    from launcher.compare import main

    return main


def _runs() -> Callable[[list[str]], None]:
    from launcher.runs import main

    return main


def _bench() -> Callable[[list[str]], None]:
    from launcher.bench import main

    return main


if __name__ == "__main__":
    main()
