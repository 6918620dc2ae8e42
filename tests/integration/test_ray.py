"""Runs under a real Ray: as a person starts, stops, resumes, submits and exports them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import read_metrics
from tests.integration.command import PRETRAIN, TORCHRUN, only_error, run, small_run
from tests.integration.ray_cluster import RayCluster
from tests.integration.ray_head import RAY, wait_until
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = pytest.mark.ray

EXACT = ("digest_records", "digest_masks", "digest_queue")
CLOSE = ("loss", "tbo_loss", "spo_loss", "cspo_loss", "gradient_norm", "cspo_positive_similarity")
SPE = str(Path(sys.executable).parent / "spe")


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_a_ray_run_with_one_line(shards, tmp_path):
    arguments = small_run(shards, f"--run.folder={tmp_path}", "--optimizer.learning_rate=1e30", "--train.steps=6")
    assert "not finite" in only_error(run(*PRETRAIN, *arguments))


@pytest.fixture
def cluster(tmp_path):
    """A Ray head on this machine, which asks for a token."""
    cluster = RayCluster(tmp_path / "home", cpus=3)
    yield cluster
    cluster.stop()


def test_ray_job_submit_and_ray_job_stop(shards, tmp_path, cluster):
    """As the README says it; a relative folder is refused, because a job's working folder is thrown away."""
    submitted = {"RAY_JOB_CONFIG_JSON_ENV_VAR": '{"metadata": {"job_submission_id": "1"}}'}  # as Ray says it to a job
    refused = run(*PRETRAIN, *small_run(shards, "--run.folder=runs"), **submitted)
    assert "run.folder is 'runs', a relative path" in only_error(refused)
    script = ["python", "launcher/pretrain.py", *small_run(shards)]
    folder = tmp_path / "runs/debug"
    submit = cluster.submit_command(*script, f"--run.folder={folder.parent}", "--train.steps=100000")
    with (tmp_path / "out").open("w") as out:
        job = subprocess.Popen(submit, env=cluster.environment, stdout=out, stderr=subprocess.STDOUT)
    wait_until(lambda: (folder / METRICS).exists() and (folder / METRICS).read_text().count("\n") >= 2, seconds=240)
    name = re.search(r"raysubmit_\w+", (tmp_path / "out").read_text()).group()
    stopped = [RAY, "job", "stop", "--address", cluster.head.dashboard, name]
    assert subprocess.run(stopped, timeout=120, **cluster.call).returncode == 0
    job.wait(timeout=120)
    step = read_metrics(folder)[-1]["step"]
    assert f"stopped after step {step} on request, and saved" in (tmp_path / "out").read_text()
    resumed = cluster.submit_command(*script, f"--run.folder={folder.parent}", f"--train.steps={step + 2}")
    done = subprocess.run(resumed, timeout=480, **cluster.call)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"finished step {step + 2}" in done.stdout
    assert [line["step"] for line in read_metrics(folder)] == list(range(1, step + 3))
