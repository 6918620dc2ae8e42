"""`spe doctor`: check every node before a run, with the settings of that run.

Takes `--config RECIPE` and settings as `spe pretrain` does. Joins the Ray cluster that the run would join, or starts
Ray here; `--local` checks this machine only, without Ray. `--json` prints the results as JSON. `--seconds N` is the
time limit of each check (default: 60).
"""

from __future__ import annotations

import secrets
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from cluster.doctor.diagnosis import Needs, Problem, diagnose, rows
from cluster.doctor.node_checks import Request
from cluster.doctor.nodes import Nodes, ThisNode
from cluster.doctor.preflight import Node, examine_nodes
from data_shards.counted import counted
from data_shards.errors import UserError
from launcher.arguments import parse_arguments
from launcher.output import print_json, text_aside
from launcher.recipe_arguments import split_recipe
from spe_dist.config import Config
from spe_dist.methods.registry import spec_of
from spe_dist.recipe import load_recipe
from spe_dist.train.dry_run import check_run
from spe_dist.train.footprint import checkpoint_bytes

_NODES_ACROSS = 5


def main(arguments: list[str]) -> None:
    """Run `spe doctor` with the arguments after it."""
    options, config = _read(arguments)
    with text_aside(options.json):
        with _opened(options, config) as (nodes, request):
            examined = examine_nodes(nodes, request)
        needs, problems = _needs(config)
        problems += diagnose(examined, needs)
        print(_report(examined, problems))
    if options.json:
        print_json({"nodes": list(map(asdict, examined)), "problems": list(map(asdict, problems))})
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        raise UserError(f"{counted(errors, 'problem')} would stop or spoil a run: see above")


def _read(arguments: list[str]) -> tuple[Namespace, Config]:
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    try:
        options, others = parser.parse_known_args(arguments)
    except ArgumentError as error:
        raise UserError(f"{error.argument_name}: {error.message}") from error
    if options.seconds <= 0:
        raise UserError(f"--seconds {options.seconds:g}: must be more than 0")
    path, rest = split_recipe(others)
    recipe = load_recipe(path)
    return options, parse_arguments(type(recipe), rest, default=recipe, prog="spe doctor", description=__doc__)


@contextmanager
def _opened(options: Namespace, config: Config) -> Iterator[tuple[Nodes, Request]]:
    """The nodes of the run, with a probe on each."""
    if options.local:
        request = _request(config, options.seconds)
        yield ThisNode(request), request
        return
    from cluster.doctor.ray_nodes import RayNodes  # --local works without Ray
    from cluster.ray_train import connected, rank_environment, with_absolute_folders

    config = with_absolute_folders(config)
    request = _request(config, options.seconds)
    with connected(config.cluster, require_resources=False):
        nodes = RayNodes(request, rank_environment(config.cluster))
        try:
            yield nodes, request
        finally:
            nodes.close()


def _request(config: Config, seconds: float) -> Request:
    gpus = config.cluster.gpus_per_worker > 0
    return Request(
        run_folder=config.run.folder,
        shards=config.data.shards,
        cache=config.data.cache,
        body="cuda" if gpus else "cpp",
        gpus=gpus,
        marker=secrets.token_hex(4),
        seconds=seconds,
    )


def _needs(config: Config) -> tuple[Needs, list[Problem]]:
    """What the run takes, as far as the recipe can be checked here."""
    cluster, size = config.cluster, None
    problems = [
        Problem("warning", "recipe", (), found.what, found.cure) for found in spec_of(config).find_warnings(config)
    ]
    try:
        size = checkpoint_bytes(config, check_run(config, world_size=cluster.workers).model)
    except UserError as error:
        problems.append(Problem("error", "recipe", (), str(error), "see also `spe pretrain --dry-run`"))
    needs = Needs(
        workers=cluster.min_workers or cluster.workers,
        cpus_per_worker=cluster.cpus_per_worker,
        gpus_per_worker=cluster.gpus_per_worker,
        checkpoint_bytes=size,
        checkpoints=config.train.keep_last + 1,
    )
    return needs, problems


def _report(nodes: Sequence[Node], problems: Sequence[Problem]) -> str:
    """The table, some nodes beside each other, and a line for each problem."""
    table, lines = rows(nodes, problems), []
    for start in range(0, len(nodes), _NODES_ACROSS):
        end = min(start + _NODES_ACROSS, len(nodes))
        block = [("", [node.name for node in nodes[start:end]])]
        block += [(name, cells[start:end]) for name, cells in table]
        widths = [max(len(cells[column]) for _, cells in block) for column in range(end - start)]
        label = max(len(name) for name, _ in block)
        for name, cells in block:
            padded = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{name.ljust(label)}  {padded}".rstrip())
        lines.append("")
    return "\n".join([*lines, *map(str, problems)] if problems else [*lines, "no problems found"])
