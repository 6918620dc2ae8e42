"""The disk of a run fills up, or cannot be written for a while: the run goes on, and what it saves later is whole."""

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from spe_dist.checkpoint.loaded import fault_of, list_checkpoints
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import read_metrics
from tests.exactness.runs import assert_bitwise, final_state, metrics_of
from tests.faults.small_disk import filled, mounted, read_only
from tests.integration.command import TORCHRUN, clean_environment, small_run
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]
STEPS, EVERY = 120, 4
_DISK_KILOBYTES = 12_000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "shards")
    return folder


def settings(data, runs, *more):
    """Of a run on two ranks that saves often."""
    steps = [f"--train.steps={STEPS}", f"--train.checkpoint_every={EVERY}", "--train.keep_last=2"]
    return small_run(data, f"--run.folder={runs}", "--encoder.layers=1", *steps, *more)


class Running:
    """A run, in processes of its own, which say what they say to a file (a pipe that nobody reads would stop them)."""

    def __init__(self, output, process):
        self._output, self._process = output, process

    @property
    def output(self) -> str:
        return self._output.read_text()

    def end(self) -> int:
        return self._process.wait(300)

    def wait_for(self, condition):
        end = time.monotonic() + 300
        while not condition():
            assert self._process.poll() is None and time.monotonic() < end, self.output
            time.sleep(0.02)


@contextmanager
def running(data, runs, output, *more):
    command = [*TORCHRUN, "2", str(ROOT / "launcher" / "pretrain.py"), *settings(data, runs, *more)]
    with output.open("w") as file:
        process = subprocess.Popen(command, env=clean_environment(), stdout=file, stderr=subprocess.STDOUT)
    try:
        yield Running(output, process)
    finally:
        process.terminate()
        process.wait(60)


def last_line(run: Path) -> dict:
    return read_metrics(run)[-1] if (run / METRICS).exists() and (run / METRICS).stat().st_size else {"step": 0}


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """Folder of the run that nothing happens to."""
    runs = tmp_path_factory.mktemp("undisturbed")
    with running(data, runs, runs / "output") as it:
        assert it.end() == 0, it.output
    return runs / "debug"


@pytest.mark.parametrize("fault", ["full", "full to the last byte", "read-only"])
def test_the_run_goes_on_and_comes_to_the_same_end(data, tmp_path, undisturbed, fault_report, fault):
    with mounted(tmp_path / "disk", _DISK_KILOBYTES) as disk:
        run = disk / "debug"
        with running(data, disk, tmp_path / "output", "--train.failed_saves=1000") as it:
            it.wait_for(lambda: last_line(run).get("saved_step", 0) >= 2 * EVERY)
            before = last_line(run)["step"]
            with during(fault, disk, run / "checkpoints"):
                if fault == "full to the last byte":
                    time.sleep(3)  # not even the metrics tell how far it is
                else:
                    it.wait_for(lambda: last_line(run).get("failed_saves", 0) >= 2)
            recovered = time.monotonic()
            at = last_line(run)["step"]
            it.wait_for(lambda: last_line(run)["saved_step"] > at)
            seconds = time.monotonic() - recovered
            assert it.end() == 0, it.output
        lines = read_metrics(run)
        assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
        assert max(line["failed_saves"] for line in lines) >= 1
        assert all(fault_of(checkpoint) is None for checkpoint in list_checkpoints(run / "checkpoints"))
        assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []
        assert metrics_of(run) == metrics_of(undisturbed)
        assert_bitwise(final_state(run), final_state(undisturbed))
        if fault != "full to the last byte":
            assert "was not saved" in (run / "logs" / "rank-0.log").read_text()
    assert before < at
    fault_report.append(
        {
            "fault": f"storage path {fault} during a run",
            "tried": 1,
            "recovered": 1,
            "steps_lost_max": 0,
            "batches_lost_or_repeated": 0,
            "seconds_median": seconds,
            "seconds_max": seconds,
        }
    )


def during(fault, disk, checkpoints):
    if fault == "read-only":
        return read_only(checkpoints)
    return filled(disk, leaving_kilobytes=0 if "byte" in fault else 300)


def test_a_disk_that_stays_full_ends_the_run_with_one_line(data, tmp_path):
    output = tmp_path / "output"
    with mounted(tmp_path / "disk", _DISK_KILOBYTES) as disk:
        run = disk / "debug"
        with running(data, disk, output) as it:
            it.wait_for(lambda: last_line(run).get("saved_step", 0) >= EVERY)
            with filled(disk, leaving_kilobytes=300):
                assert it.end() == 1
        reason = "3 saves in a row have failed; the newest checkpoint"
        errors = {line for line in it.output.splitlines() if line.startswith("error") and reason in line}
        assert len(errors) == 2 and all("is full (ENOSPC)" in line for line in errors), it.output  # one of each rank
        saved = list_checkpoints(run / "checkpoints")
        assert saved and all(fault_of(checkpoint) is None for checkpoint in saved)
        with running(data, disk, output) as it:  # there is room again, and the same command goes on
            assert it.end() == 0, it.output
        assert [line["step"] for line in read_metrics(run)] == list(range(1, STEPS + 1))
