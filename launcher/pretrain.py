"""Pre-train: `python launcher/pretrain.py --config launcher/recipes/NAME.yaml [--section.key value …]`.

Starts Ray on this machine if there is no cluster, joins the one it is given, and is a rank itself under torchrun.
`--config NAME` is short for `--config launcher/recipes/NAME.yaml`.
`--dry-run` checks everything that can be checked without training and prints the plan. `--profile` traces a few steps
into the run's folder. `--print-run-folder` says where that would be. `--help` lists all settings.

Exit status: 0 the last step is made and saved; 75 (the system's "try again") stopped before it as asked, and saved:
the same command goes on; 1 an error, told in one line. Ranks under torchrun end with 0 when they stop as asked: it
takes any other status for a failure and kills the other ranks.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # this checkout, not an installed copy; and no file of launcher/ may hide a module
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import tyro

from data_shards.errors import UserError
from data_shards.stop_requests import STOPPED
from launcher.output import say
from launcher.run_command import run_command
from spe_dist.config import Config
from spe_dist.recipe import load_recipe

RECIPES = Path(__file__).parent / "recipes"
DEFAULT = RECIPES / "debug.yaml"
PROFILED_STEPS = 5


def main(arguments: list[str]) -> None:
    """Run with command-line arguments.

    Raises:
        UserError: anything that the person at the keyboard can mend.
        SystemExit: the run was stopped before its last step (see above).
    """
    print_run_folder = "--print-run-folder" in arguments
    config, dry_run = read_arguments([a for a in arguments if a != "--print-run-folder"])
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # for pip's ninja
    if print_run_folder:
        print(Path(config.run_folder).absolute())
    elif dry_run:
        from spe_dist.train.dry_run import describe_run

        print(describe_run(config))
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        _train_as_rank(config)
    else:
        _train_on_ray(config)


def read_arguments(arguments: list[str]) -> tuple[Config, bool]:
    """The configuration, and whether to stop at a dry run."""
    rest, dry_run = [a for a in arguments if a not in ("--dry-run", "--profile")], "--dry-run" in arguments
    path, rest = split_recipe(rest)
    recipe = load_recipe(path)
    if "--profile" in arguments:
        recipe = replace(recipe, train=replace(recipe.train, profile_steps=PROFILED_STEPS))
    config = tyro.cli(type(recipe), default=recipe, args=rest, prog="pretrain", description=__doc__)
    return config, dry_run


def split_recipe(arguments: list[str], *, default: Path = DEFAULT) -> tuple[Path, list[str]]:
    """The recipe that `--config` names, else the default; and the other arguments, YAML's null as tyro's None.

    Args:
        arguments: of the command.
        default: the recipe where `--config` is not among them.

    Raises:
        UserError: it is the name of no recipe.
    """
    path, rest = default, ["None" if argument == "null" else argument for argument in arguments]
    for index, argument in enumerate(rest):
        if argument == "--config" or argument.startswith("--config="):
            width = 1 if "=" in argument else 2
            path = _recipe_path(argument.partition("=")[2] if width == 1 else [*rest, ""][index + 1])
            rest = rest[:index] + rest[index + width :]
            break
    return path, rest


def _recipe_path(name: str) -> Path:
    """A path as it is; a bare name is that of a recipe that comes with spe_dist."""
    path = Path(name)
    if path.name != name or path.suffix or path.is_file():
        return path
    recipes = {recipe.stem: recipe for recipe in sorted(RECIPES.glob("*.yaml"))}
    if name not in recipes:
        raise UserError(f"--config {name}: no such file or recipe; recipes are: {', '.join(recipes)}")
    return recipes[name]


def _train_as_rank(config: Config) -> None:
    from launcher.progress import shown_progress
    from spe_dist.engine.world import World
    from spe_dist.train.dry_run import check_run
    from spe_dist.train.loop import train

    first = os.environ["RANK"] == "0"
    check_run(config, world_size=int(os.environ["WORLD_SIZE"]))
    if first:
        _warn_of_slow_bf16(config, World.from_environment().device.type)
    with shown_progress(config, enabled=first):
        summary = train(config)
    if first:
        say(_ending(summary.folder, summary.step, summary.finished))


def _train_on_ray(config: Config) -> None:
    from cluster.ray_train import train_on_ray, with_absolute_folders
    from launcher.progress import shown_progress
    from spe_dist.train.dry_run import check_run

    config = with_absolute_folders(config)
    check_run(config, world_size=config.cluster.workers)
    _warn_of_slow_bf16(config, "cuda" if config.cluster.gpus_per_worker else "cpu")
    with shown_progress(config, enabled=True):
        summary = train_on_ray(config)
    say(_ending(summary.folder, summary.step, summary.finished))
    if not summary.finished:
        sys.exit(STOPPED)


def _warn_of_slow_bf16(config: Config, device_type: str) -> None:
    """Of this machine: those of a cluster are mostly alike."""
    from spe_dist.engine.slow_bf16 import slow_bf16_warning

    warning = slow_bf16_warning(config.train.precision, device_type)
    if warning:
        say(warning)


def _ending(folder: Path, step: int, finished: bool) -> str:
    if not finished:
        return f"stopped after step {step} as asked, and saved; the same command goes on from there ({folder})"
    return f"finished step {step}. Run: {folder}   Curves: tensorboard --logdir {folder}   Export: spe export {folder}"


if __name__ == "__main__":
    run_command(main)
