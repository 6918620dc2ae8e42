"""Runs under a real Ray: as a person starts, stops, resumes, submits and exports them."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from spe_dist.train.run_log import read_metrics
from tests.integration.command import PRETRAIN, TORCHRUN, clean_environment, only_error, run, small_run
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = pytest.mark.ray

EXACT = ("digest_records", "digest_masks", "digest_queue")
CLOSE = ("loss", "tbo_loss", "spo_loss", "cspo_loss", "gradient_norm", "cspo_positive_similarity")
RAY, SPE = (str(Path(sys.executable).parent / program) for program in ("ray", "spe"))


def test_two_workers_give_the_run_of_one_rank(shards, tmp_path):
    """Ray with two ranks, torchrun with one: the same batches and losses (going on: tests/exactness)."""
    arguments = small_run(shards, "--train.steps=4", "--train.checkpoint_every=1", "--train.keep_last=2")
    on_ray, alone = tmp_path / "ray", tmp_path / "alone"
    done = run(*PRETRAIN, *arguments, f"--run.folder={on_ray}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step      4" in done.stdout and "finished step 4" in done.stdout
    one = run(*TORCHRUN, "1", ROOT / "launcher/pretrain.py", *arguments, f"--run.folder={alone}")
    assert one.returncode == 0, one.stderr[-3000:]
    for mine, other in zip(read_metrics(on_ray / "debug"), read_metrics(alone / "debug"), strict=True):
        assert {key: mine[key] for key in EXACT} == {key: other[key] for key in EXACT}
        assert {key: mine[key] for key in CLOSE} == pytest.approx({key: other[key] for key in CLOSE}, rel=1e-5)
    folder = on_ray / "debug"
    for part in ("config.yaml", "versions.json", "logs/rank-0.log", "logs/rank-1.log", "tokenizer/tokenizer.json"):
        assert (folder / part).exists(), part
    assert list((folder / "tensorboard").iterdir())
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"step-000000003", "step-000000004"}
    assert [line["step"] for line in read_metrics(folder)] == [1, 2, 3, 4]
    exported = run(SPE, "export", folder)
    assert exported.returncode == 0 and (folder / "export" / "model.safetensors").exists(), exported.stderr


def test_a_loss_that_is_not_finite_ends_a_ray_run_with_one_line(shards, tmp_path):
    arguments = small_run(shards, f"--run.folder={tmp_path}", "--optimizer.learning_rate=1e30", "--train.steps=6")
    assert "not finite" in only_error(run(*PRETRAIN, *arguments))


@pytest.fixture
def cluster(tmp_path):
    """A Ray head on this machine, whose dashboard asks for a token: its address and environment."""
    environment = clean_environment() | {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    port, dashboard, client, agent = (_free_port() for _ in range(4))
    call = {"env": environment, "capture_output": True, "text": True, "timeout": 120}
    subprocess.run([RAY, "get-auth-token", "--generate"], check=True, **call)
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    ports += [f"--dashboard-agent-listen-port={agent}"]  # its default may be taken by another Ray of this machine
    # A socket's path may have 107 characters, and pytest's folders are long.
    folder = tempfile.mkdtemp(prefix="ray-")
    start = [RAY, "start", "--head", "--block", "--num-cpus=3", f"--temp-dir={folder}", *ports]
    # `ray stop` would end every Ray of this machine; --block ends its own when it is asked to.
    head = subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{dashboard}"
    submit = [RAY, "job", "submit", "--address", address, "--", "true"]
    _wait_until(lambda: subprocess.run(submit, **call).returncode == 0)
    yield address, environment
    head.terminate()
    head.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def test_ray_job_submit(shards, tmp_path, cluster):
    """As the README says it; a relative folder is refused, because a job's working folder is thrown away."""
    address, environment = cluster
    script = ["--working-dir", str(ROOT), "--", "python", "launcher/pretrain.py", *small_run(shards)]
    submit = [
        RAY,
        "job",
        "submit",
        "--address",
        address,
        "--runtime-env-json",
        json.dumps({"excludes": [".venv", "runs"]}),
    ]
    call = {"env": environment, "capture_output": True, "text": True, "timeout": 480}
    refused = subprocess.run([*submit, *script, "--run.folder=runs"], **call)
    assert refused.returncode != 0
    assert "error: run.folder is 'runs', a relative path" in refused.stdout + refused.stderr
    done = subprocess.run([*submit, *script, f"--run.folder={tmp_path / 'runs'}"], **call)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "finished step 3" in done.stdout
    assert [line["step"] for line in read_metrics(tmp_path / "runs/debug")] == [1, 2, 3]


def _wait_until(condition, seconds=150):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
