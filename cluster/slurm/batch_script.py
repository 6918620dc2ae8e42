"""A batch script for one run: `pretrain.sbatch` beside this file, the only one there is, with other settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_shards.counted import counted
from data_shards.errors import UserError
from spe_dist.config import ClusterConfig

TEMPLATE = Path(__file__).parent / "pretrain.sbatch"


@dataclass(frozen=True)
class NodeResources:
    """What each of equal nodes gives to a run."""

    workers: int
    cpus: int
    gpus: int


def resources_of_a_node(cluster: ClusterConfig, *, nodes: int, loader_processes: int) -> NodeResources:
    """Share ranks evenly among nodes; a rank has its threads and its loader processes.

    Raises:
        UserError: some nodes would have more ranks than others.
    """
    if nodes < 1:
        raise UserError(f"--nodes {nodes}: it must be at least 1")
    workers, left = divmod(cluster.workers, nodes)
    if left or not workers:
        raise UserError(
            f"{counted(cluster.workers, 'worker')} cannot be split evenly among {counted(nodes, 'node')}: give "
            f"--cluster.workers a multiple of {nodes}, or other --nodes"
        )
    return NodeResources(
        workers, workers * (cluster.cpus_per_worker + loader_processes), workers * cluster.gpus_per_worker
    )


def batch_script(options: Mapping[str, str], *, checkout: Path, programs: Path, arguments: Sequence[str]) -> str:
    """The template with other settings.

    Args:
        options: of sbatch, without dashes, with their values ("" if an option has none); those of the template that
            are not named stay.
        checkout: the repository.
        programs: folder of Python and what was installed with it.
        arguments: arguments of `launcher/pretrain.py`; what sbatch is given after the script comes behind them.
    """
    script = TEMPLATE.read_text()
    for name, value in options.items():
        script = _with_option(script, name, value)
    script = _with_line(script, "checkout=", shlex.quote(str(checkout)))
    script = _with_line(script, "programs=", shlex.quote(str(programs)))
    return _with_line(script, "arguments=", f'({shlex.join(arguments)} "$@")')


def _with_option(script: str, name: str, value: str) -> str:
    line = f"#SBATCH --{name}={shlex.quote(value)}" if value else f"#SBATCH --{name}"
    replaced, count = re.subn(rf"^#SBATCH --{re.escape(name)}(=.*)?$", lambda _: line, script, flags=re.MULTILINE)
    if count:
        return replaced
    head, separator, rest = script.rpartition("\n#SBATCH ")
    last, newline, rest = rest.partition("\n")
    return f"{head}{separator}{last}\n{line}{newline}{rest}"


def _with_line(script: str, start: str, value: str) -> str:
    lines = script.splitlines(keepends=True)
    found = [index for index, line in enumerate(lines) if line.startswith(start)]
    assert len(found) == 1, (start, found)
    lines[found[0]] = f"{start}{value}\n"
    return "".join(lines)
