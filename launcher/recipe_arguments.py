"""`--config RECIPE` and the settings of a run after it, as `spe pretrain` and other commands take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data_shards.errors import UserError
from launcher.arguments import parse_arguments
from spe_dist.config import Config
from spe_dist.recipe import load_recipe

RECIPES = Path(__file__).parent / "recipes"
DEFAULT = RECIPES / "debug.yaml"
PROFILED_STEPS = 5
SHORT = {"--track": "--run.track"}


def read_arguments(arguments: list[str], *, description: str | None = None) -> tuple[Config, bool]:
    """The configuration of a run, and whether to stop at a dry run.

    Args:
        arguments: arguments of `spe pretrain`.
        description: what `--help` says above the settings.

    Raises:
        UserError: the recipe or a setting is wrong.
    """
    rest, dry_run = [a for a in arguments if a not in ("--dry-run", "--profile")], "--dry-run" in arguments
    path, rest = split_recipe(spelled_out(rest, SHORT))
    recipe = load_recipe(path)
    if "--profile" in arguments:
        recipe = replace(recipe, train=replace(recipe.train, profile_steps=PROFILED_STEPS))
    config: Config = parse_arguments(type(recipe), rest, default=recipe, prog="spe pretrain", description=description)
    return config, dry_run


def split_recipe(arguments: list[str], *, default: Path = DEFAULT) -> tuple[Path, list[str]]:
    """The recipe that `--config` names, else the default; and the other arguments, YAML's null as tyro's None.

    Args:
        arguments: arguments of the command.
        default: the recipe where `--config` is not among them.

    Raises:
        UserError: it is the name of no recipe.
    """
    path, rest = default, ["None" if argument == "null" else argument for argument in arguments]
    for index, argument in enumerate(rest):
        if argument == "--config" or argument.startswith("--config="):
            width = 1 if "=" in argument else 2
            if index + width > len(rest):
                raise UserError("--config needs a value: the file or the name of a recipe")
            path = find_recipe(argument.partition("=")[2] if width == 1 else rest[index + 1])
            rest = rest[:index] + rest[index + width :]
            break
    return path, rest


def spelled_out(arguments: Sequence[str], short: Mapping[str, str]) -> list[str]:
    """The arguments with the full names of options that have a short one."""
    parts = [argument.partition("=") for argument in arguments]
    return [f"{short.get(name, name)}{equals}{value}" for name, equals, value in parts]


def find_recipe(name: str) -> Path:
    """A path as it is; a bare name is that of a recipe that comes with spe_dist."""
    path = Path(name)
    if path.name != name or path.suffix or path.is_file():
        return path
    recipes = {recipe.stem: recipe for recipe in sorted(RECIPES.glob("*.yaml"))}
    if name not in recipes:
        raise UserError(f"--config {name}: no such file or recipe; recipes are: {', '.join(recipes)}")
    return recipes[name]
