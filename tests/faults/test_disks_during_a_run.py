"""The disk of a run fills up, or cannot be written for a while: the run goes on, and what it saves later is whole."""

import shutil
import statistics
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from spe_dist.checkpoint.reader import fault_of, list_checkpoints, step_of
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import read_metrics
from tests.exactness.runs import metrics_of
from tests.faults.small_disk import filled, mounted, read_only
from tests.forked import clean_environment
from tests.integration.command import TORCHRUN, small_run
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.distributed, pytest.mark.timeout(600)]
EVERY = 4
_DISK_KILOBYTES = 12_000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "shards")
    return folder


def settings(data, runs, *more):
    """Of a run on two ranks that saves often."""
    steps = ["--train.steps=100000", f"--train.checkpoint_every={EVERY}", "--train.keep_last=2"]
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


def run_alone(data, runs, steps) -> Path:
    """Folder of the run that nothing happens to, stopped after some steps or more."""
    run = runs / "debug"
    with running(data, runs, runs / "output") as it:
        it.wait_for(lambda: last_line(run)["step"] >= steps)
        stop(it, run)
    return run


def stop(it, run):
    (run / "STOP").touch()
    assert it.end() == 0, it.output


def test_the_run_goes_on_as_if_nothing_had_happened(data, tmp_path, tmp_path_factory, fault_report):
    """Three faults, one after another, in one run."""
    with mounted(tmp_path / "disk", _DISK_KILOBYTES) as disk:
        run = disk / "debug"
        with running(data, disk, tmp_path / "output", "--train.failed_saves=1000") as it:
            it.wait_for(lambda: last_line(run).get("saved_step", 0) >= EVERY)
            seconds = [disturbed(it, run, fault) for fault in faults(disk, run / "checkpoints")]
            stop(it, run)
        lines = read_metrics(run)
        assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
        assert step_of(list_checkpoints(run / "checkpoints")[-1]) == len(lines)
        assert all(fault_of(checkpoint) is None for checkpoint in list_checkpoints(run / "checkpoints"))
        assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []
        alone = run_alone(data, tmp_path_factory.mktemp("alone"), len(lines))
        assert metrics_of(run) == metrics_of(alone)[: len(lines)]
        said = (run / "logs" / "rank-0.log").read_text()
        assert "was not saved" in said and "(ENOSPC)" in said and "Read-only file system" in said
    fault_report.append(
        {
            "fault": "disk full, full to the last byte, read-only while a run saves",
            "tried": len(seconds),
            "recovered": len(seconds),
            "steps_lost_max": 0,
            "batches_lost_or_repeated": 0,
            "seconds_median": statistics.median(seconds),
            "seconds_max": max(seconds),
        }
    )


def faults(disk, checkpoints):
    yield filled(disk, leaving_kilobytes=300)
    yield read_only(checkpoints)
    yield filled(disk)


def disturbed(it, run, fault) -> float:
    """Let two saves fail, or, where not even metrics can tell, three seconds pass; seconds until one succeeds again."""
    failed = last_line(run)["step"]
    with fault:
        time.sleep(3)
        if has_room(run):
            it.wait_for(lambda: last_line(run)["failed_saves"] >= 2)
    over = time.monotonic()
    it.wait_for(lambda: last_line(run)["saved_step"] > failed)
    assert max(line["failed_saves"] for line in read_metrics(run)[failed:]) >= 1
    return time.monotonic() - over


def has_room(run) -> bool:
    return shutil.disk_usage(run).free > 100_000


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
            it.wait_for(lambda: last_line(run)["saved_step"] > step_of(saved[-1]))
            stop(it, run)
        lines = read_metrics(run)
        assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
