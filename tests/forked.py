"""Processes forked from one that has imported torch, DeepSpeed and transformers: that takes five seconds of a core."""

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

_TIMEOUT = 480.0  # seconds

_IMPORTED = [
    *("spe_dist.train.loop", "spe_dist.train.dry_run", "spe_dist.engine.deepspeed_engine"),
    *("spe_dist.methods.spe.method", "spe_dist.methods.enpar.method", "torch.utils.tensorboard", "pytest"),
    *("spe_dist.extraction.predict.extractor", "spe_dist.finetuning.loop", "launcher.pretrain", "launcher.predict"),
    *("transformers.modeling_utils", "transformers.models.bert.modeling_bert"),  # which transformers itself does late
    *("cluster.ray_train", "ray.data"),
]


def clean_environment() -> dict[str, str]:
    """This environment without traces of a launcher, with one thread per process and workers that do not starve."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RANK", "WORLD_SIZE", "LOCAL_", "RAY_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"  # pip's ninja
    # Workers at Ray's niceness (15) get a thirtieth of a core beside another test: docs/cluster.md sets it too.
    niceness = {"RAY_worker_niceness": "0"}
    return environment | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PATH": path} | niceness


@cache
def forking_context() -> ForkServerContext:
    """Where processes come from that have imported what a rank needs."""
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PATH"):  # the first two are read when torch is imported
        os.environ[name] = clean_environment()[name]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def run_forked(function: Callable[..., object], *arguments: object, **environment: str) -> CompletedProcess:
    """Call a function of an importable module in a process of its own, in `clean_environment` and what is given."""
    environment = clean_environment() | environment  # else that of the moment when the first one was forked
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        process = forking_context().Process(target=_here, args=(function, arguments, environment, out.name, err.name))
        process.start()
        process.join(_TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise TimeoutExpired(repr((function, *arguments)), _TIMEOUT, out.read(), err.read())
        return CompletedProcess([function, *arguments], process.exitcode, out.read(), err.read())


def run_script(script: Path, *arguments: object, **environment: str) -> CompletedProcess:
    """Run a Python script as `python script …` does, but for its imports.

    Ray reads RAY_… when it is imported: what joins a cluster with RAY_AUTH_MODE needs `tests.integration.command.run`.
    """
    return run_forked(_script, script, arguments, **environment)


def run_as_only_rank(script: Path, *arguments: object, **environment: str) -> CompletedProcess:
    """Run a Python script as `torchrun --nproc-per-node 1 script …` does, but for its imports."""
    rank = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "1"}
    return run_forked(_script, script, arguments, **rank, **environment)


def _here(
    function: Callable[..., object], arguments: tuple[object, ...], environment: dict[str, str], out: str, err: str
) -> None:
    for number, path in enumerate((out, err), start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


def _script(script: Path, arguments: tuple[object, ...]) -> None:
    sys.argv, sys.path[0] = [str(script), *map(str, arguments)], str(script.parent)
    runpy.run_path(str(script), run_name="__main__")
