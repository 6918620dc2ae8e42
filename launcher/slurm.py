"""`spe slurm`: write a batch script for Slurm from a recipe. It submits nothing.

Settings of the recipe are overridden as in `spe pretrain`. CPUs and GPUs of a node follow from `cluster.workers`,
`cluster.cpus_per_worker`, `cluster.gpus_per_worker` and `data.workers`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from cluster.ray_train import with_absolute_folders
from cluster.slurm.batch_script import batch_script, resources_of_a_node
from data_shards.files import explain_write_errors, written_output
from launcher.arguments import parse_arguments
from launcher.recipe_arguments import read_arguments, split_recipe
from spe_dist.config import Config

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Slurm:
    """Write a Slurm batch script. Settings of the recipe can be overridden as in spe pretrain."""

    nodes: int = 1
    """Nodes of the job; workers are divided evenly among them."""
    time: str = "24:00:00"
    """Time limit of one start; the next start resumes the run."""
    stop_before: int = 300
    """Seconds before the time limit at which the run saves and stops; Slurm may be a minute early."""
    sbatch: tuple[str, ...] = ()
    """Further sbatch options without dashes: account=NAME partition=NAME exclusive."""
    out: Path | None = None
    """File for the script. Default: standard output."""


def main(argv: list[str]) -> None:
    """Run `spe slurm` with the arguments after it."""
    command, settings = parse_arguments(Slurm, argv, prog="spe slurm", description=__doc__, return_unknown_args=True)
    config, _ = read_arguments(settings)
    script = render(command, config, settings)
    if command.out is None:
        print(script, end="")
        return
    with explain_write_errors(command.out), written_output(command.out) as file:
        file.write(script.encode())
    print(f"written to {command.out}: sbatch {command.out}", file=sys.stderr)


def render(command: Slurm, config: Config, settings: list[str]) -> str:
    """The script of a run."""
    node = resources_of_a_node(config.cluster, nodes=command.nodes, loader_processes=config.data.workers)
    options = {
        "job-name": config.run.name,
        "nodes": str(command.nodes),
        "cpus-per-task": str(node.cpus),
        "time": command.time,
        "signal": f"B:USR1@{command.stop_before}",
    }
    options |= {"gpus-per-node": str(node.gpus)} if node.gpus else {}
    options |= {name: value for name, _, value in (option.partition("=") for option in command.sbatch)}
    recipe, overrides = split_recipe(settings)
    arguments = ["--config", str(recipe.absolute()), *overrides, *_absolute_folders(config)]
    return batch_script(options, checkout=CHECKOUT, programs=Path(sys.executable).parent, arguments=arguments)


def _absolute_folders(config: Config) -> list[str]:
    """Overrides for the folders that are relative, as the job may start elsewhere."""
    absolute = with_absolute_folders(config)
    pairs = [
        ("run.folder", config.run.folder, absolute.run.folder),
        ("data.shards", config.data.shards, absolute.data.shards),
        ("data.cache", config.data.cache, absolute.data.cache),
        ("encoder.name-or-path", config.encoder.name_or_path, absolute.encoder.name_or_path),
    ]
    return [f"--{key}={there}" for key, here, there in pairs if here != there]
