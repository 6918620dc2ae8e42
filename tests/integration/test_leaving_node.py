"""The hook that a pod runs before it is stopped, on a real Ray of two nodes with token authentication."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.integration.command import clean_environment
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = pytest.mark.ray
RAY = str(Path(sys.executable).parent / "ray")
LOOK = """
import json, ray
from ray._private.state import state
ray.init(address="auto", log_to_driver=False)
nodes = {node["NodeID"]: "node:__internal_head__" in node["Resources"] for node in ray.nodes() if node["Alive"]}
print(json.dumps({"nodes": nodes, "draining": state.get_draining_nodes()}))
"""
WORK = """
import ray
ray.init(address="auto", log_to_driver=False)
@ray.remote(num_cpus=1)
class Worker:
    def work(self):
        return "works"
worker = Worker.remote()
print(ray.get(worker.work.remote()), flush=True)
input()
"""


@pytest.fixture
def nodes(tmp_path):
    """Starts a head, and a worker that joins it; the environment of programs on them."""
    gcs, client, *others = (_free_port() for _ in range(6))
    environment = clean_environment() | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "of-this-test-" + "0" * 24,
        "RAY_ADDRESS": f"127.0.0.1:{gcs}",
    }
    folder = tempfile.mkdtemp(prefix="ray-")  # a socket's path may have 107 characters, and pytest's folders are long
    head = ["--head", f"--port={gcs}", f"--ray-client-server-port={client}", "--include-dashboard=false"]
    worker = [f"--address=127.0.0.1:{gcs}"]
    started = []
    for arguments, cpus, agent in ((head, 0, others[0]), (worker, 1, others[1])):
        command = [RAY, "start", "--block", *arguments, f"--num-cpus={cpus}", f"--dashboard-agent-listen-port={agent}"]
        command += [f"--temp-dir={folder}"] if "--head" in arguments else []
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        _wait_until(lambda: len(_look(environment).get("nodes", ())) == len(started))
    yield environment
    for process in reversed(started):  # `ray stop` would end every Ray of this machine; --block ends its own
        process.terminate()
        process.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def busy(nodes):
    """An actor on the worker, for an idle node leaves at once."""
    with subprocess.Popen(
        [sys.executable, "-c", WORK], env=nodes, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "works\n"
        yield
        process.stdin.close()


@pytest.mark.usefixtures("busy")
def test_a_head_that_is_stopped_announces_every_other_node(nodes):
    before = _look(nodes)
    assert sorted(before["nodes"].values()) == [False, True] and before["draining"] == {}
    started = time.time()
    hook = [sys.executable, "-m", "cluster.leaving_node", "--seconds", "40"]
    with subprocess.Popen(hook, env=nodes, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        _wait_until(lambda: _look(nodes)["draining"])
        draining = _look(nodes)["draining"]
        assert list(draining) == [node for node, is_head in before["nodes"].items() if not is_head]
        assert all(started + 40 <= deadline / 1000 <= time.time() + 40 for deadline in draining.values())
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and "does not know" not in errors, errors


def _look(environment):
    done = subprocess.run([sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def _wait_until(condition, seconds=150):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
