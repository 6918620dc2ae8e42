"""A Ray cluster of several nodes on this machine, with token authentication, started as people start one."""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.forked import clean_environment
from tests.integration.ray_head import RAY, ray_head, ray_node, wait_until
from tests.unit.spe_dist.tiny_run import ROOT


class RayCluster:
    """A head and worker nodes, each a process group of its own that can be killed.

    Args:
        home: folder for the token.
        cpus: of every node.
    """

    def __init__(self, home: Path, *, cpus: int) -> None:
        home.mkdir()
        self.environment = clean_environment() | {"RAY_AUTH_MODE": "token", "HOME": str(home)}
        self.environment["RAY_JOB_STOP_WAIT_TIME_S"] = "60"  # else a job that is stopped is killed after 3 seconds
        self.call = {"env": self.environment, "capture_output": True, "text": True}
        subprocess.run([RAY, "get-auth-token", "--generate"], check=True, timeout=120, **self.call)
        self._cpus = cpus
        self._stack = ExitStack()
        self.head = self._stack.enter_context(ray_head(self.environment, cpus=cpus))
        self.nodes: list[subprocess.Popen] = []
        wait_until(lambda: self.submit("true", timeout=120).returncode == 0)

    def add_node(self) -> subprocess.Popen:
        """Start a worker node; it has joined when this returns."""
        self.nodes.append(self._stack.enter_context(ray_node(self.head, self.environment, cpus=self._cpus)))
        return self.nodes[-1]

    def kill_node(self, node: subprocess.Popen) -> None:
        """End all processes of a node at once, as a power failure does."""
        for child in psutil.Process(node.pid).children(recursive=True):
            child.kill()
        node.kill()
        node.wait()
        self.nodes.remove(node)

    def submit_command(self, *command: str) -> list[str]:
        """`ray job submit` as the README says it, from the repository."""
        excludes = json.dumps({"excludes": [".venv", "runs", "data", ".git"]})
        options = ["--address", self.head.dashboard, "--working-dir", str(ROOT), "--runtime-env-json", excludes]
        return [RAY, "job", "submit", *options, "--", *command]

    def submit(self, *command: str, timeout: float = 480) -> subprocess.CompletedProcess:
        """Submit a job without a working folder and wait for its end."""
        submit = [RAY, "job", "submit", "--address", self.head.dashboard, "--", *command]
        return subprocess.run(submit, timeout=timeout, **self.call)

    def stop(self) -> None:
        """End all nodes."""
        self._stack.close()
