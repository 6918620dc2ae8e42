"""What a machine does before it is taken away: it tells Ray, and waits until the run has saved.

    python -m cluster.drain_node --seconds 60

In a pod it is the preStop hook (cluster/kubernetes/rayjob.yaml): Kubernetes stops the container when it returns. Ray
tells the ranks of a node that drains; they save, and train on without it. No node outlives the head, so the head
announces all of them. A run of which nothing is left here (it has saved and ended, or moved) is not waited for.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import ray

LOGGER = logging.getLogger(__name__)

_HEAD = "node:__internal_head__"
_RUN = ("launcher/pretrain.py", "RayTrainWorker")  # in the command lines of drivers and ranks


def main(arguments: Sequence[str] | None = None) -> None:
    """Announce and wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, required=True, help="until the machine is gone")
    seconds = parser.parse_args(arguments).seconds
    deadline = time.monotonic() + seconds
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    context = ray.get_runtime_context()
    address, nodes = context.gcs_address, leaving_nodes(ray.nodes(), here=context.get_node_id())
    ray.shutdown()
    for node in nodes:
        announce(node, address, seconds)
    wait_for_end_of(_RUN, deadline)


def leaving_nodes(nodes: Sequence[Mapping[str, Any]], *, here: str) -> list[str]:
    """Ids of the nodes that go when the one here does: on the head all others, else only this one.

    Args:
        nodes: as `ray.nodes()` lists them.
        here: id of this node.
    """
    alive = {node["NodeID"]: _HEAD in node["Resources"] for node in nodes if node["Alive"]}
    if not alive[here]:
        return [here]
    return [node for node, is_head in alive.items() if not is_head]


def announce(node: str, address: str, seconds: int) -> None:
    """Tell Ray that a node is about to be taken away."""
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", address, "--node-id", node]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the machine is being stopped"]
    done = subprocess.run([*command, "--deadline-remaining-seconds", str(seconds)], capture_output=True, text=True)
    if done.returncode:  # the other nodes may still be told
        LOGGER.warning("cannot announce to Ray that node %s is leaving: %s", node, done.stderr.strip()[-500:])


def wait_for_end_of(names: Sequence[str], deadline: float) -> None:
    """Return when no process of this machine has one of the names in its command line, or at the deadline.

    Args:
        names: parts of command lines.
        deadline: in the time of `time.monotonic`.
    """
    while time.monotonic() < deadline:
        lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
        if not any(name in line for line in lines for name in names):
            return
        time.sleep(0.5)


if __name__ == "__main__":
    main()
