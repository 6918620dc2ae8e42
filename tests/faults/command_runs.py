"""Runs as a person starts them, in processes of their own, to be disturbed while they go on."""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from spe_dist.recipe import config_yaml
from tests.faults.trials import last_step, wait_until
from tests.forked import clean_environment
from tests.integration.command import PRETRAIN
from tests.unit.spe_dist.tiny_run import ROOT

RANK_LOG = re.compile(r"logs/rank-(\d+)\.log$")
RAY, SPE = (str(Path(sys.executable).parent / program) for program in ("ray", "spe"))
PATIENCE = 400.0  # seconds; a machine that does much else needs them


class CommandRun:
    """A command that trains; whatever is left of it ends with the context.

    Args:
        config: of the run.
        launcher: what comes before `--config`; Ray's by default.
        environment: variables beside those that are there.
    """

    def __init__(self, config: Any, *, launcher: Sequence[str] = PRETRAIN, **environment: str) -> None:
        self.folder = Path(config.run_folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        recipe = self.folder.with_name(f"{self.folder.name}.yaml")
        recipe.write_text(config_yaml(config))
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the context)
        self.process = psutil.Popen(
            [*map(str, launcher), "--config", str(recipe)],
            env=clean_environment() | {"PYTHONPATH": str(ROOT)} | environment,
            cwd=ROOT,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self._family: set[psutil.Process] = set()

    def __enter__(self) -> CommandRun:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._know_the_family()
        for process in [self.process, *self._family]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        self._output.close()

    @property
    def output(self) -> str:
        """All that the command has said."""
        self._output.seek(0)
        return self._output.read()

    def errors(self) -> list[str]:
        """The lines for the person at the keyboard."""
        return [line for line in self.output.splitlines() if line.startswith("error")]

    def wait_for_step(self, step: int) -> None:
        """Until the run has logged a step."""
        wait_until(
            lambda: last_step(self.folder) >= step or self.process.poll() is not None,
            seconds=PATIENCE,
            what=f"step {step} of {self.folder}",
        )
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.output[-3000:]}"
        self._know_the_family()

    def wait(self, *, seconds: float = PATIENCE) -> int:
        """Until the command ends; its exit status."""
        wait_until(lambda: self.process.poll() is not None, seconds=seconds, what=f"the end of {self.folder}")
        return int(self.process.returncode)

    def ranks(self) -> dict[int, psutil.Process]:
        """The processes that train, by rank: those that hold the ranks' logs open."""
        ranks = {}
        for process in psutil.process_iter():
            try:
                held = [file.path for file in process.open_files() if file.path.startswith(f"{self.folder}/logs/")]
            except psutil.Error:
                continue
            for match in filter(None, map(RANK_LOG.search, held)):
                ranks.setdefault(int(match[1]), process)
        return ranks

    def _know_the_family(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self._family |= set(self.process.children(recursive=True))


def torchrun(ranks: int, *, restarts: int) -> list[str]:
    """The launcher of a run without Ray, which starts ranks again so many times."""
    program = str(Path(sys.executable).parent / "torchrun")
    settings = ["--standalone", f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", "--monitor-interval=0.1"]
    return [program, *settings, str(ROOT / "launcher" / "pretrain.py")]


@contextmanager
def ray_head(*, cpus: int) -> Iterator[tuple[dict[str, str], psutil.Process]]:
    """A Ray of our own on this machine: what whoever joins it must have in the environment, and its process."""
    port, dashboard, client, agent = (free_port() for _ in range(4))
    folder = tempfile.mkdtemp(prefix="ray-")  # a socket's path may have 107 characters
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    ports += [f"--dashboard-agent-listen-port={agent}"]
    command = [RAY, "start", "--head", "--block", f"--num-cpus={cpus}", f"--temp-dir={folder}", *ports]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    log = Path(folder, "head.log")
    with log.open("w") as output:
        head = psutil.Popen(
            [*command, "--include-dashboard=false", "--node-ip-address=127.0.0.1"],
            env=clean_environment() | token,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(
            lambda: "Ray runtime started" in log.read_text() or head.poll() is not None, seconds=PATIENCE, what="Ray"
        )
        assert head.poll() is None, log.read_text()
        yield {"RAY_ADDRESS": f"127.0.0.1:{port}", **token}, head
    finally:
        family = head.children(recursive=True) if head.is_running() else []
        if head.is_running():
            head.terminate()  # `ray stop` would end every Ray of this machine; --block ends its own
        try:
            head.wait(timeout=60)
        except psutil.TimeoutExpired:
            head.kill()
            head.wait()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def stop_process(process: psutil.Process) -> None:
    """SIGSTOP: it hangs."""
    process.send_signal(signal.SIGSTOP)


def wait_until_gone(processes: Sequence[psutil.Process], *, seconds: float) -> None:
    """Until all of them have ended."""
    _, alive = psutil.wait_procs(list(processes), timeout=seconds)
    assert not alive, f"still there after {seconds} s: {alive}"
