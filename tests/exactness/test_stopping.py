"""Stopped as people and schedulers stop runs, and started again: the metrics of a run that was left alone."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from data_shards.stop_requests import STOPPED
from launcher.recipe_arguments import read_arguments
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import read_metrics
from tests.exactness.runs import assert_bitwise, final_state, metrics_of, run
from tests.forked import clean_environment
from tests.integration.command import PRETRAIN, TORCHRUN, small_run
from tests.unit.spe_dist.tiny_run import ROOT

STEPS = 80
SCRIPT = str(ROOT / "launcher" / "pretrain.py")


@pytest.fixture(scope="module")
def data(shards):
    """The folder that holds `shards`."""
    return shards.parent


def arguments(data: Path, runs: Path, *more: str) -> list[str]:
    """Of a run with dropout that saves only when it is asked to stop, and at its end."""
    dropout = ["--encoder.dropout=0.1", "--heads_dropout=0.1"]
    lengths = [f"--train.steps={STEPS}", "--train.checkpoint_every=100000", "--optimizer.learning_rate=0.001"]
    return small_run(data, f"--run.folder={runs}", "--encoder.layers=1", *dropout, *lengths, *more)


@pytest.fixture(scope="module")
def left_alone(data, tmp_path_factory):
    """Folder of a run that nobody stopped, on 2 ranks."""
    config, _ = read_arguments(arguments(data, tmp_path_factory.mktemp("alone")))
    (folder,) = run(2, [config])
    return folder


def start_and_stop(command: list[str], folder: Path, stop, steps: int) -> subprocess.CompletedProcess:
    """Start a run, stop it when it has logged so many more steps, and check that it saved."""
    before = steps_logged(folder)
    process = subprocess.Popen(
        [str(part) for part in command],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 300
    while steps_logged(folder) < before + steps:
        assert process.poll() is None and time.monotonic() < end, process.communicate(timeout=60)
        time.sleep(0.02)
    stop(process)
    output, errors = process.communicate(timeout=300)
    stopped = read_metrics(folder)[-1]["step"]
    assert f"stopped after step {stopped} on request, and saved" in output, output + errors
    assert before + steps <= stopped < STEPS
    assert (folder / "checkpoints" / f"step-{stopped:09d}" / "manifest.json").exists()
    assert not (folder / "STOP").exists()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def steps_logged(folder: Path) -> int:
    return (folder / METRICS).read_text().count("\n") if (folder / METRICS).exists() else 0


def terminate(process):
    process.send_signal(signal.SIGTERM)


@pytest.mark.ray
@pytest.mark.distributed
def test_stopped_under_two_launchers_it_is_the_run_left_alone(data, tmp_path, left_alone):
    """Under torchrun and under Ray by SIGTERM, which a driver passes on as a STOP file; bitwise."""
    folder, settings = tmp_path / "debug", arguments(data, tmp_path)
    torchrun, ray = [*TORCHRUN, "2", SCRIPT, *settings], [*PRETRAIN, *settings]
    start_and_stop(torchrun, folder, terminate, 4)  # torchrun passes it on to the ranks; it always exits with 1 itself
    assert start_and_stop(ray, folder, terminate, 4).returncode == STOPPED
    config, _ = read_arguments(settings)
    run(2, [config])
    assert metrics_of(folder) == metrics_of(left_alone)
    assert_bitwise(final_state(folder), final_state(left_alone))
