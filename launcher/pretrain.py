"""Pre-train: `python launcher/pretrain.py --config launcher/recipes/NAME.yaml [--section.key value …]`.

Starts Ray on this machine, joins a given cluster, or runs as one rank under torchrun.
`--config NAME` is short for `--config launcher/recipes/NAME.yaml`. `--config auto` chooses a recipe of SPE by the GPUs
of this machine and the size of the encoder, and prints its name.
`--dry-run` checks settings, data, encoder and machine without training and prints the plan. The plan has the expected
time if `--speed RECORDS_PER_SECOND` is given or an earlier start of the run has measured its speed.
`--profile` traces a few steps into the run's folder.
`--track wandb`, `trackio` or `mlflow` (short for run.track) sends to a tracker what TensorBoard shows.
`--print-run-folder` prints the run's folder. `--help` lists all settings.

Exit status: 0: the run is finished and saved; 75 (EX_TEMPFAIL): it was stopped on request and saved, and the same
command resumes it; 1: an error, printed in one line. Ranks under torchrun exit with 0 after a stop request, because
torchrun treats any other status as a failure and kills the other ranks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # this checkout, not an installed copy; and no file of launcher/ may hide a module
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from data_shards.errors import UserError
from data_shards.stop_requests import STOPPED
from launcher.output import say
from launcher.recipe_arguments import read_arguments
from launcher.recipe_choice import with_chosen_recipe
from launcher.run_command import run_command
from spe_dist.config import Config

if TYPE_CHECKING:
    from spe_dist.engine.machine import Machine


def main(arguments: list[str]) -> None:
    """Run with command-line arguments.

    Raises:
        UserError: anything that the person at the keyboard can fix.
        SystemExit: the run was stopped before its last step (see above).
    """
    print_run_folder = "--print-run-folder" in arguments
    speed, rest = _split_speed([argument for argument in arguments if argument != "--print-run-folder"])
    rest, chosen = with_chosen_recipe(rest)
    if chosen and not print_run_folder and os.environ.get("RANK", "0") == "0":
        say(chosen)
    config, dry_run = read_arguments(rest, description=__doc__)
    if speed is not None and not dry_run:
        raise UserError("--speed needs --dry-run: a run measures its own speed")
    if print_run_folder:
        print(Path(config.run_folder).absolute())
    elif dry_run:
        _dry_run(config, speed)
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        _train_as_rank(config)
    else:
        _train_on_ray(config)


def _split_speed(arguments: list[str]) -> tuple[float | None, list[str]]:
    """Records per second that `--speed` gives, and the other arguments."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--speed":
            width = 1 if equals else 2
            value = value if equals else [*arguments, ""][index + 1]
            try:
                speed = float(value)
            except ValueError:
                speed = 0.0
            if not 0 < speed < float("inf"):
                raise UserError(f"--speed {value}: give a number of records per second, such as --speed 500")
            return speed, arguments[:index] + arguments[index + width :]
    return None, arguments


def _dry_run(config: Config, speed: float | None) -> None:
    from spe_dist.engine.machine import Machine
    from spe_dist.train.dry_run import describe_run

    print(describe_run(config, records_per_second=speed), flush=True)
    _warn_of_settings(config)
    if _starts_own_ray(config):
        _check_machine(config, Machine.here())
    else:
        print(f"{'machines':12} those of the Ray cluster, which a dry run does not check; spe doctor does")
    print("dry run: everything that can be checked without training is in order")


def _starts_own_ray(config: Config) -> bool:
    return not (config.cluster.address or os.environ.get("RAY_ADDRESS"))


def _check_machine(config: Config, machine: Machine) -> None:
    """Is there a GPU for every worker, and the tracker; and what is there and not used, or used twice?"""
    from spe_dist.train.tracking import require_tracker

    cluster = config.cluster
    require_tracker(config.run.track)
    machine.require_gpus(cluster)
    used = cluster.gpus_per_worker * cluster.workers
    setting = f"--cluster.gpus-per-worker 1 --cluster.workers {machine.gpus} --train.precision bf16 uses all"
    _say(machine.crowded(cluster), machine.unused_gpus(used, setting))


def _say(*lines: str | None) -> None:
    for line in filter(None, lines):
        say(line)


def _train_as_rank(config: Config) -> None:
    from launcher.progress import shown_progress
    from spe_dist.engine.machine import Machine
    from spe_dist.engine.world import World
    from spe_dist.train.dry_run import check_run
    from spe_dist.train.loop import train

    first, ranks_here = os.environ["RANK"] == "0", int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    machine = Machine.here()
    machine.require_gpus_of_ranks(ranks_here)
    check_run(config, world_size=int(os.environ["WORLD_SIZE"]))
    if first:
        _say(machine.unused_gpus(ranks_here, f"torchrun --nproc-per-node {machine.gpus} uses all"))
        _warn(config, World.from_environment().device.type)
    with shown_progress(config, enabled=first):
        summary = train(config)
    if first:
        say(_ending(summary.folder, summary.step, summary.finished))


def _train_on_ray(config: Config) -> None:
    from cluster.ray_train import train_on_ray, with_absolute_folders
    from launcher.progress import shown_progress
    from spe_dist.engine.machine import Machine
    from spe_dist.train.dry_run import check_run

    config = with_absolute_folders(config)
    check_run(config, world_size=config.cluster.workers)
    if _starts_own_ray(config):
        _check_machine(config, Machine.here())
    _warn(config, "cuda" if config.cluster.gpus_per_worker else "cpu")
    with shown_progress(config, enabled=True):
        summary = train_on_ray(config)
    say(_ending(summary.folder, summary.step, summary.finished))
    if not summary.finished:
        sys.exit(STOPPED)


def _warn(config: Config, device_type: str) -> None:
    """Warn of unusual settings, and of a slow bf16 on this machine: a cluster's machines are mostly like it."""
    from spe_dist.engine.slow_bf16 import slow_bf16_warning

    _say(slow_bf16_warning(config.train.precision, device_type))
    _warn_of_settings(config)


def _warn_of_settings(config: Config) -> None:
    from spe_dist.methods.registry import spec_of

    _say(*map(str, spec_of(config).find_warnings(config)))


def _ending(folder: Path, step: int, finished: bool) -> str:
    if not finished:
        return f"stopped after step {step} on request, and saved; the same command resumes ({folder})"
    return f"finished step {step}. Run: {folder}   Curves: tensorboard --logdir {folder}   Export: spe export {folder}"


if __name__ == "__main__":
    run_command(main)
