"""A node as the examination sees it: an object that lives there and does what it is asked."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.doctor.node_checks import Finding, Request, examine, leave_marker, one_line, remove_markers, seen_markers

_ROOT = Path(__file__).resolve().parents[2]
_CONNECT_SECONDS = 5.0


class NodeProbe:
    """Runs on a node."""

    def __init__(self, request: Request, index: int) -> None:
        self._request = request
        self._index = index
        self._folder = Path(request.run_folder)
        self._listeners: list[socket.socket] = []

    def host(self) -> str:
        """Short name of the machine."""
        return platform.node().split(".")[0]

    def examine(self) -> dict[str, Finding]:
        """What the node finds out alone."""
        return examine(self._request, self._index)

    def clock(self) -> float:
        """Seconds since the epoch, here and now."""
        return time.time()

    def leave_marker(self) -> None:
        """Show the other nodes a file."""
        leave_marker(self._folder, self._request.marker, self._index)

    def seen_markers(self, count: int) -> list[int]:
        """Numbers of the nodes whose files are seen here."""
        return seen_markers(self._folder, self._request.marker, count)

    def remove_markers(self) -> None:
        """Leave no trace."""
        remove_markers(self._folder, self._request.marker)

    def listen(self) -> int:
        """A port that answers from now on."""
        listener = socket.create_server(("", 0), backlog=1024)  # the kernel answers, without an accept
        self._listeners.append(listener)
        return int(listener.getsockname()[1])

    def free_port(self) -> int:
        """A port that nobody uses now."""
        with socket.create_server(("", 0)) as listener:
            return int(listener.getsockname()[1])

    def unreachable(self, addresses: Sequence[tuple[str, int] | None]) -> dict[int, str]:
        """Nodes, by number, whose ports cannot be reached from here, and why; None is not tried."""
        there = [(number, address) for number, address in enumerate(addresses) if address is not None]
        with ThreadPoolExecutor(max_workers=32) as pool:
            problems = list(pool.map(_connection_problem, [address for _, address in there]))
        return {number: problem for (number, _), problem in zip(there, problems, strict=True) if problem}

    def all_reduce(self, backend: str, ranks: Sequence[int], world_size: int, master: tuple[str, int]) -> Finding:
        """Run this node's ranks of an all-reduce to their end, or to the time limit.

        Args:
            backend: gloo or nccl.
            ranks: ranks of this node.
            world_size: ranks of all nodes.
            master: address and port where rank 0 listens.
        """
        seconds = self._request.seconds
        processes = []
        for local_rank, rank in enumerate(ranks):
            places: dict[str, object] = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": local_rank}
            places |= {"MASTER_ADDR": master[0], "MASTER_PORT": master[1]}
            processes.append(_start_rank(backend, seconds, places))
        end = time.monotonic() + seconds
        outcomes = [_outcome(process, end) for process in processes]
        failures = [str(outcome["failure"]) for outcome in outcomes if "failure" in outcome]
        return Finding({"ranks": outcomes}, failure=failures[0] if failures else None)


def _connection_problem(address: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        return f"{address[0]}:{address[1]}: {error.strerror or error}"
    return None


def _start_rank(backend: str, seconds: float, places: Mapping[str, object]) -> subprocess.Popen[str]:
    environment = {**os.environ, **{name: str(value) for name, value in places.items()}}
    environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if backend == "nccl":
        environment.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides GPUs from a process that reserved none
    command = [sys.executable, "-m", "cluster.doctor.all_reduce_probe", backend, str(int(seconds))]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def _outcome(process: subprocess.Popen[str], end: float) -> dict[str, Any]:
    """The last line that a rank printed, and how the rank failed, if it did."""
    try:
        output, errors = process.communicate(timeout=max(end - time.monotonic(), 0.1))
        late = False
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        late = True
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    outcome = dict(lines[-1]) if lines else {"phase": "not started"}
    if late:
        outcome["failure"] = _WAITING[outcome["phase"]]
    elif process.returncode:
        said = [line for line in errors.splitlines() if line.strip()]
        outcome["failure"] = one_line(OSError(said[-1] if said else f"ended with status {process.returncode}"))
    return outcome


_WAITING = {
    "not started": "its process did not start in time",
    "started": "waited in vain for the other ranks to meet at rank 0",
    "met": "met the other ranks, but the sum never came",
    "done": "did not end in time",
}
