"""Heads and further nodes of Ray on this machine, each with ports and folders of its own."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.security import Access, probe_access

RAY = str(Path(sys.executable).parent / "ray")


@dataclass(frozen=True)
class Head:
    """Where a head listens: its control service, its dashboard, and the folder of its logs."""

    address: str
    dashboard: str
    folder: Path


@contextmanager
def ray_head(environment: dict[str, str], *arguments: str, cpus: int = 2) -> Iterator[Head]:
    """A head that runs until the block ends."""
    port, dashboard, client, agent = (free_port() for _ in range(4))
    # A socket's path may have 107 characters, and pytest's folders are long.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    ports += [f"--dashboard-agent-listen-port={agent}", f"--num-cpus={cpus}", f"--temp-dir={folder}"]
    head = start_node(["--head", *ports, *arguments], environment)
    try:
        address = f"127.0.0.1:{port}"
        wait_until(lambda: probe_access(address, seconds=2) is not Access.UNKNOWN, process=head)
        wait_until(lambda: _listens(dashboard), process=head)
        wait_until(lambda: _listens(agent), process=head)  # its last part; without it the raylet gives up
        yield Head(address, f"http://127.0.0.1:{dashboard}", folder)
    finally:
        end_node(head)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_node(head: Head, environment: dict[str, str], *before: str, cpus: int = 1) -> Iterator[subprocess.Popen]:
    """One more node of a head's cluster; `before` is what its command begins with (unshare …)."""
    agent = free_port()
    ports = [f"--dashboard-agent-listen-port={agent}", f"--num-cpus={cpus}", "--include-log-monitor=false"]
    node = start_node([f"--address={head.address}", *ports], environment, before)
    try:
        wait_until(lambda: _listens(agent), process=node)
        yield node
    finally:
        end_node(node)


def start_node(arguments: Sequence[str], environment: dict[str, str], before: Sequence[str] = ()) -> subprocess.Popen:
    """`ray start --block`: `ray stop` would end every Ray of this machine, this ends its own when it is asked to."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*before, RAY, "start", "--block", *arguments], env=environment, **quiet)


def end_node(node: subprocess.Popen) -> None:
    """As Ray ends it; it gives jobs that are over half a minute, which no test waits for."""
    processes = psutil.Process(node.pid).children(recursive=True) if node.poll() is None else []
    node.terminate()
    try:
        node.wait(timeout=5)
    except subprocess.TimeoutExpired:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node.kill()
        node.wait()


def wait_until(condition, seconds=150, process: subprocess.Popen | None = None) -> None:
    """Wait for something that a process, if one is given, must live to see."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        assert process is None or process.poll() is None, f"{process.args} ended with {process.returncode}"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
