"""Processes forked from one that has imported torch, DeepSpeed and transformers: that takes five seconds of a core."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

_IMPORTED = [
    *("spe_dist.train.loop", "spe_dist.train.dry_run", "spe_dist.engine.deepspeed_engine"),
    *("spe_dist.methods.spe", "spe_dist.methods.enpar", "torch.utils.tensorboard", "pytest"),
]


def forking_context() -> ForkServerContext:
    """Where processes come from that have imported what a rank needs."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # read when torch is imported
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # pip's ninja
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def run_forked(script: Path, *arguments: object, timeout: float = 480) -> subprocess.CompletedProcess:
    """Run a Python script as `python script …` does, but for its imports."""
    return _run(script, arguments, {}, timeout)


def run_as_only_rank(script: Path, *arguments: object, timeout: float = 480) -> subprocess.CompletedProcess:
    """Run a Python script as `torchrun --nproc-per-node 1 script …` does, but for its imports."""
    return _run(script, arguments, {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "1"}, timeout)


def _run(script: Path, arguments: tuple[object, ...], environment: Mapping[str, str], timeout: float):
    command = [str(script), *map(str, arguments)]
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        process = forking_context().Process(target=_run_here, args=(command, environment, (out.name, err.name)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout, out.read(), err.read())
        return subprocess.CompletedProcess(command, process.exitcode, out.read(), err.read())


def _run_here(command: list[str], environment: Mapping[str, str], outputs: tuple[str, str]) -> None:
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_TRUNC), number)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    os.environ.update(environment)
    sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
    runpy.run_path(command[0], run_name="__main__")
