"""`spe doctor` on real nodes: this machine, and a Ray of several raylets with faults planted on one of them."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.doctor.node_checks import Request
from cluster.doctor.node_probe import NodeProbe
from tests.forked import clean_environment, run_script
from tests.integration.command import run, small_run
from tests.integration.ray_head import free_port, ray_head, ray_node, wait_until
from tests.unit.spe_dist.tiny_run import ROOT


def doctor(*arguments, **environment):
    return run_script(ROOT / "launcher/cli.py", "doctor", *arguments, **environment)


def problems_in(done):
    return {problem["check"]: problem for problem in json.loads(done.stdout)["problems"]}


def errors_in(done):
    return {check: problem for check, problem in problems_in(done).items() if problem["severity"] == "error"}


def test_this_machine_is_in_order_and_nothing_is_left_behind(shards, tmp_path):
    done = doctor("--local", *small_run(shards, f"--run.folder={tmp_path / 'runs'}"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert errors_in(done) == {}
    (node,) = json.loads(done.stdout)["nodes"]
    assert all(f"\n{name} " in done.stderr for name in ("torch", "all-reduce"))
    assert [finding["failure"] for finding in node["findings"].values()] == [None] * 10
    ranks = node["findings"]["all-reduce"]["values"]["ranks"]
    assert len(ranks) == 2 and all(rank["latency_microseconds"] > 0 for rank in ranks)
    assert list((tmp_path / "runs").iterdir()) == []


def test_every_fault_of_this_machine_is_seen_at_the_same_time(shards, tmp_path):
    """A shard with a flipped bit, a run folder that is a file, no compiler, an interface that is not there."""
    shutil.copytree(shards, tmp_path / "copy")
    shard = tmp_path / "copy" / "shards" / "00-000000.tar"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (tmp_path / "runs").write_text("not a folder")
    planted = {"CXX": "/nowhere/g++", "GLOO_SOCKET_IFNAME": "nosuch0", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    arguments = small_run(tmp_path / "copy", f"--run.folder={tmp_path / 'runs'}", "--json")
    done = doctor("--local", *arguments, **planted)
    *_, error = done.stderr.splitlines()
    assert done.returncode == 1 and error.startswith("error: ") and "would stop or spoil a run" in error
    found = problems_in(done)
    assert "SHA-256 differs" in found["shards"]["what"] and "00-000000.tar" in found["shards"]["what"]
    assert "exists" in found["storage"]["what"] and str(tmp_path / "runs") in found["storage"]["what"]
    assert "/nowhere/g++" in found["kernels"]["what"]
    assert "nosuch0" in found["all-reduce"]["what"]
    assert all(problem["cure"] for problem in found.values())


def test_shards_that_are_not_there(tmp_path):
    done = doctor("--local", *small_run(tmp_path, f"--run.folder={tmp_path / 'runs'}", "--json"))
    assert done.returncode == 1
    assert str(tmp_path / "shards") in errors_in(done)["shards"]["what"]


def probe(folder, seconds=8.0):
    return NodeProbe(Request(str(folder), "", None, "cpp", False, "m", seconds), 0)


def test_an_all_reduce_that_is_blocked_ends_at_its_time_limit(tmp_path):
    """One of two ranks never comes, as if its port were closed."""
    finding = probe(tmp_path).all_reduce("gloo", [0], 2, ("127.0.0.1", free_port()))
    assert finding.failure in (
        "waited in vain for the other ranks to meet at rank 0",
        "its process did not start in time",
    )


def test_a_closed_port_is_named(tmp_path):
    node = probe(tmp_path)
    open_port = node.listen()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        closed = taken.getsockname()[1]
        problems = node.unreachable([("127.0.0.1", open_port), ("127.0.0.1", closed), None])
    assert list(problems) == [1] and f"127.0.0.1:{closed}" in problems[1] and "refused" in problems[1].lower()


def _fake_torch(folder: Path) -> Path:
    """An environment where torch has another version."""
    metadata = folder / "torch-9.9.9.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n")
    return folder


def _own_mounts(folder: Path, size: str) -> list[str]:
    """The beginning of a command that sees a small disk of its own in place of a folder."""
    script = f'mount -t tmpfs -o size={size} tmpfs "{folder}" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("a file system of its own needs root")
    return command


@pytest.mark.slow
@pytest.mark.ray
def test_a_cluster_of_two_nodes_is_in_order_and_faults_of_a_third_are_told_apart(shards, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}
    environment = clean_environment() | token | {"PYTHONPATH": str(ROOT)}
    bad = environment | {
        "PYTHONPATH": f"{_fake_torch(tmp_path / 'fake')}:{ROOT}",
        "GLOO_SOCKET_IFNAME": "nosuch0",
        "CXX": "/nowhere/g++",
    }
    before = _own_mounts(runs, "40m")
    with ray_head(environment) as head, ray_node(head, environment):
        arguments = [*small_run(shards, f"--run.folder={runs}"), "--json", f"--cluster.address={head.address}"]
        command = [sys.executable, str(ROOT / "launcher/cli.py"), "doctor", *arguments]
        wait_until(lambda: _nodes(head, token) == 2)
        good = run(*command, **token)
        assert good.returncode == 0, good.stdout + good.stderr
        nodes = json.loads(good.stdout)["nodes"]
        assert [node["findings"]["shared folder"]["values"]["sees"] for node in nodes] == [[0, 1], [0, 1]]
        assert [len(node["findings"]["all-reduce"]["values"]["ranks"]) for node in nodes] == [1, 1]
        assert list(runs.iterdir()) == []
        with ray_node(head, bad, *before):
            wait_until(lambda: _nodes(head, token) == 3)
            done = run(*command, "--train.keep-last=2000", **token)
    assert done.returncode == 1
    problems = json.loads(done.stdout)["problems"]
    said = {problem["check"]: problem["what"] for problem in problems if problem["severity"] == "error"}
    assert "torch is 9.9.9, elsewhere" in said["versions"]
    assert "free in run.folder, 2001 checkpoints take" in said["storage"]
    assert "does not show what" in said["shared folder"]
    assert "/nowhere/g++" in said["kernels"]
    assert any("nosuch0" in problem["what"] for problem in problems if problem["check"] == "all-reduce")
    # The faults of one node are not laid at the door of the others (what takes several they do suffer together).
    (sick,) = next(problem["nodes"] for problem in problems if problem["check"] == "versions")
    alone = [problem["nodes"] for problem in problems if problem["check"] in ("versions", "storage", "kernels")]
    assert alone == [[sick]] * len(alone)


def _nodes(head, token):
    """Living nodes of a cluster, asked by a process that joins it."""
    program = f"import ray; ray.init({head.address!r}); print(sum(node['Alive'] for node in ray.nodes()))"
    done = run(sys.executable, "-c", program, **token)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else 0
