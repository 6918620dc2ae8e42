"""A run submitted to a Ray cluster whose nodes leave and come: it goes on, with the batches of a run left alone."""

import re
import subprocess
from pathlib import Path

import pytest

from spe_dist.checkpoint.reader import fault_of, list_checkpoints
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import read_metrics
from spe_dist.train.stop_signal import STOP_FILE
from tests.forked import clean_environment
from tests.integration.command import TORCHRUN, small_run
from tests.integration.ray_cluster import RayCluster
from tests.integration.ray_head import wait_until
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1200)]

STEPS = 100_000  # never reached; the learning rate's schedule depends on it
EXACT = ("step", "digest_records", "digest_masks", "digest_queue")


@pytest.fixture
def cluster(tmp_path):
    """Three nodes of one CPU each."""
    cluster = RayCluster(tmp_path / "home", cpus=1)
    for _ in range(2):
        cluster.add_node()
    yield cluster
    cluster.stop()


def test_nodes_leave_and_come_while_a_submitted_run_goes_on(shards, tmp_path, cluster):
    """A node is killed, one comes, one is told to leave: 3 ranks, 2, 3, 2; the same batches as one rank alone."""
    settings = small_run(shards, "--batch.lanes=4", "--encoder.layers=1", "--train.checkpoint_every=20")
    settings += ["--optimizer.learning_rate=1e-4"]  # a tie in max-pooling, decided otherwise, shall not grow
    elastic = ["--cluster.workers=3", "--cluster.min_workers=1", "--cluster.resize_seconds=5"]
    folder = tmp_path / "runs/debug"
    command = ["python", "launcher/pretrain.py", *settings, *elastic, f"--run.folder={folder.parent}"]
    submit = cluster.submit_command(*command, f"--train.steps={STEPS}")
    with (tmp_path / "out").open("w") as out:
        job = subprocess.Popen(submit, env=cluster.environment, stdout=out, stderr=subprocess.STDOUT)
    log = folder / "logs/rank-0.log"

    def trains_on(ranks: int) -> bool:
        """Whether the run was last started on so many ranks, and has made some steps since."""
        assert job.poll() is None, (tmp_path / "out").read_text()[-3000:]
        starts = re.findall(r"training on (\d+) ranks from step (\d+)", log.read_text() if log.exists() else "")
        return bool(starts) and starts[-1][0] == str(ranks) and steps_logged(folder) > int(starts[-1][1]) + 5

    wait_until(lambda: trains_on(3), seconds=240)
    cluster.kill_node(cluster.nodes[0])
    wait_until(lambda: trains_on(2), seconds=240)
    cluster.add_node()
    wait_until(lambda: trains_on(3), seconds=240)
    leaving = cluster.nodes[0]
    leaving.terminate()  # `ray start --block` then announces to the cluster that its node is about to leave
    wait_until(lambda: "a node is about to leave: saving first" in log.read_text(), seconds=60)
    wait_until(lambda: trains_on(2), seconds=240)
    (folder / STOP_FILE).touch()
    job.wait(timeout=120)
    metrics = read_metrics(folder)
    assert f"stopped after step {len(metrics)} on request, and saved" in (tmp_path / "out").read_text()
    assert [line["step"] for line in metrics] == list(range(1, len(metrics) + 1))
    assert fault_of(list_checkpoints(folder / "checkpoints")[-1]) is None
    alone = run_alone(settings, tmp_path / "alone", steps=len(metrics))
    for mine, other in zip(metrics, alone, strict=False):
        assert {key: mine[key] for key in EXACT} == {key: other[key] for key in EXACT}
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-3)  # 1e-6 and more in tests/exactness


def steps_logged(folder: Path) -> int:
    return (folder / METRICS).read_text().count("\n") if (folder / METRICS).exists() else 0


def run_alone(settings: list[str], runs: Path, *, steps: int) -> list[dict]:
    """Metrics of at least so many steps of a run on one rank, under torchrun."""
    folder = runs / "debug"
    command = [*TORCHRUN, "1", ROOT / "launcher/pretrain.py", *settings, f"--run.folder={runs}"]
    process = subprocess.Popen([*map(str, command), f"--train.steps={STEPS}"], env=clean_environment())
    wait_until(lambda: steps_logged(folder) >= steps, seconds=240)
    (folder / STOP_FILE).touch()
    process.wait(timeout=60)
    return read_metrics(folder)
