"""The hook that a pod runs before it is stopped, on a real Ray of two nodes with token authentication."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.forked import clean_environment
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.ray]
RAY = str(Path(sys.executable).parent / "ray")
# Keeps an actor on the worker, as an idle node leaves at once; answers every line with what Ray knows of nodes.
WATCH = """
import json, sys, time, ray
from ray._private.state import state
while not ray.is_initialized():
    try:
        ray.init(address="auto", log_to_driver=False, logging_level="CRITICAL")
    except Exception:
        time.sleep(0.2)
print("head", flush=True)
@ray.remote(num_cpus=1)
class Worker:
    def work(self):
        return "worker"
worker = Worker.remote()
print(ray.get(worker.work.remote()), flush=True)
for line in sys.stdin:
    alive = {node["NodeID"]: "node:__internal_head__" in node["Resources"] for node in ray.nodes() if node["Alive"]}
    print(json.dumps({"nodes": alive, "draining": state.get_draining_nodes()}), flush=True)
"""


class Watcher:
    """A driver on the head that tells which nodes there are, and which of them drain until when."""

    def __init__(self, process):
        self._process = process

    def read_line(self):
        return self._process.stdout.readline().strip()

    def look(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self.read_line())


@pytest.fixture
def cluster():
    """A head without room for work and a worker: the environment of programs on the head, and a watcher."""
    gcs, client, *agents = (_free_port() for _ in range(4))
    environment = clean_environment() | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "of-this-test-" + "0" * 24,
        "RAY_ADDRESS": f"127.0.0.1:{gcs}",
    }
    folder = tempfile.mkdtemp(prefix="ray-")  # a socket's path may have 107 characters, and pytest's folders are long
    small = ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000"]
    head = ["--head", f"--port={gcs}", f"--ray-client-server-port={client}", "--include-dashboard=false"]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(_node(environment, *head, f"--temp-dir={folder}", "--num-cpus=0", *small, agent=agents[0]))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        process = stack.enter_context(subprocess.Popen([sys.executable, "-c", WATCH], env=environment, **pipes))
        stack.callback(process.kill)
        watcher = Watcher(process)
        assert watcher.read_line() == "head"
        stack.enter_context(_node(environment, f"--address=127.0.0.1:{gcs}", "--num-cpus=1", *small, agent=agents[1]))
        assert watcher.read_line() == "worker"
        yield environment, watcher


def test_a_head_that_is_stopped_announces_every_other_node(cluster):
    environment, watcher = cluster
    before = watcher.look()
    assert sorted(before["nodes"].values()) == [False, True] and before["draining"] == {}
    started = time.time()
    hook = [sys.executable, "-m", "cluster.drain_node", "--seconds", "40"]
    with subprocess.Popen(hook, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not watcher.look()["draining"]:
            assert process.poll() is None or watcher.look()["draining"], process.stderr.read()
            time.sleep(0.1)
        draining = watcher.look()["draining"]
        assert list(draining) == [node for node, is_head in before["nodes"].items() if not is_head]
        assert all(started + 40 <= deadline / 1000 <= time.time() + 40 for deadline in draining.values())
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and "cannot announce" not in errors, errors


@contextmanager
def _node(environment, *arguments, agent):
    command = [RAY, "start", "--block", *arguments, f"--dashboard-agent-listen-port={agent}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    process.terminate()  # `ray stop` would end every Ray of this machine; --block ends its own
    process.wait(timeout=60)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
