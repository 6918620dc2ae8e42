"""Commands as a person types them, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

from tests.forked import clean_environment
from tests.unit.spe_dist.tiny_run import ROOT, SMALL

PRETRAIN = [sys.executable, str(ROOT / "launcher" / "pretrain.py")]
TORCHRUN = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node"]


def run(
    *command: str, cwd: Path | None = None, timeout: float = 480, **environment: str
) -> subprocess.CompletedProcess:
    """Run a command to its end."""
    return subprocess.run(
        [str(part) for part in command],
        env=clean_environment() | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def small_run(folder: Path, *more: str) -> list[str]:
    """Overrides of the debug recipe: a tiny model on the shards in `folder`, running in `folder`/runs."""
    overrides = [f"--{section}.{key}={value}" for section, keys in SMALL.items() for key, value in keys.items()]
    return [f"--data.shards={folder / 'shards'}", f"--run.folder={folder / 'runs'}", *overrides, *more]


def only_error(done: subprocess.CompletedProcess) -> str:
    """The one line that a failed command says; no traceback beside it."""
    assert done.returncode != 0, done.stdout[-2000:]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr[-3000:]
    return errors[0]
