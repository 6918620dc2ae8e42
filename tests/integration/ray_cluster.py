"""A Ray cluster of several nodes on this machine, with token authentication, started as people start one."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.integration.command import clean_environment
from tests.unit.spe_dist.tiny_run import ROOT

RAY = str(Path(sys.executable).parent / "ray")


class RayCluster:
    """A head and worker nodes, each a process group of its own that can be killed.

    Args:
        home: folder for the token.
        cpus: of every node.
    """

    def __init__(self, home: Path, *, cpus: int) -> None:
        home.mkdir()
        self._home = home
        self.environment = clean_environment() | {"RAY_AUTH_MODE": "token", "HOME": str(home)}
        self.environment["RAY_JOB_STOP_WAIT_TIME_S"] = "60"  # else a job that is stopped is killed after 3 seconds
        self.call = {"env": self.environment, "capture_output": True, "text": True}
        subprocess.run([RAY, "get-auth-token", "--generate"], check=True, timeout=120, **self.call)
        self._cpus = cpus
        # A socket's path may have 107 characters, and pytest's folders are long.
        self._folder = tempfile.mkdtemp(prefix="ray-")
        port, dashboard, client = (free_port() for _ in range(3))
        self.address, self.dashboard = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
        ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
        self.nodes = [self._start("--head", "--node-ip-address=127.0.0.1", f"--temp-dir={self._folder}", *ports)]
        wait_until(lambda: self.submit("true", timeout=120).returncode == 0)

    def add_node(self) -> subprocess.Popen:
        """Start a worker node; it has joined when this returns."""
        before = len(self.alive())
        self.nodes.append(self._start(f"--address={self.address}"))
        wait_until(lambda: len(self.alive()) == before + 1)
        return self.nodes[-1]

    def kill_node(self, node: subprocess.Popen) -> None:
        """End all processes of a node at once, as a power failure does."""
        for child in psutil.Process(node.pid).children(recursive=True):
            child.kill()
        node.kill()
        node.wait()
        self.nodes.remove(node)

    def alive(self) -> list[dict]:
        """Nodes that Ray believes to be alive."""
        listed = [RAY, "list", "nodes", "--filter=state=ALIVE", "--format=json", f"--address={self.dashboard}"]
        done = subprocess.run(listed, timeout=120, **self.call)
        return json.loads(done.stdout) if done.returncode == 0 else []

    def submit_command(self, *command: str) -> list[str]:
        """`ray job submit` as the README says it, from the repository."""
        excludes = json.dumps({"excludes": [".venv", "runs", "data", ".git"]})
        options = ["--address", self.dashboard, "--working-dir", str(ROOT), "--runtime-env-json", excludes]
        return [RAY, "job", "submit", *options, "--", *command]

    def submit(self, *command: str, timeout: float = 480) -> subprocess.CompletedProcess:
        """Submit a job without a working folder and wait for its end."""
        submit = [RAY, "job", "submit", "--address", self.dashboard, "--", *command]
        return subprocess.run(submit, timeout=timeout, **self.call)

    def stop(self) -> None:
        """End all nodes. `ray stop` would end every Ray of this machine; --block ends its own when it is asked to."""
        for node in reversed(self.nodes):
            node.terminate()
        for node in self.nodes:
            node.wait(timeout=60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *options: str) -> subprocess.Popen:
        # The default port of the agent may be taken by another Ray of this machine.
        options = (*options, f"--num-cpus={self._cpus}", f"--dashboard-agent-listen-port={free_port()}")
        options = (*options, "--include-log-monitor=false", "--disable-usage-stats")
        with (self._home / "ray-start.log").open("a") as log:
            return subprocess.Popen(
                [RAY, "start", "--block", *options], env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )


def wait_until(condition, seconds=150):
    """Ask again and again."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
