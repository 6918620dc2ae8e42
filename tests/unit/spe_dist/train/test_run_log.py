"""Metrics and curves are the same, and outlive full disks, clocks that are set back, kills and damaged lines."""

import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import RunLog, read_metrics
from tests.faults.small_disk import filled, mounted


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk", 400) as folder:
        yield folder


def write(folder, steps, *, first_step=0, loss=1.0):
    log = RunLog(folder, first_step=first_step)
    for step in steps:
        log.write({"step": step, "loss": loss})
    return log


def curve(folder):
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return [(point.step, point.value) for point in events.Scalars("loss")]


def line(folder):
    return [(line["step"], line["loss"]) for line in read_metrics(folder)]


def test_lines_and_points_wait_for_room_and_none_is_lost_or_torn(disk, caplog):
    log = write(disk, [1])
    with filled(disk):
        for step in range(2, 200):
            log.write({"step": step, "loss": 1.0, "text": "x" * 100})
    assert "metrics.jsonl now, trying again later: No space left on device" in caplog.text
    log.write({"step": 200, "loss": 1.0})
    log.close()
    assert line(disk) == curve(disk) == [(step, 1.0) for step in range(1, 201)]


def test_a_start_with_a_clock_set_back_replaces_the_later_points_of_the_one_before(tmp_path, monkeypatch):
    """Neither is closed, as if both were killed."""
    write(tmp_path, range(1, 11))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    write(tmp_path, range(9, 13), first_step=8, loss=2.0)
    write(tmp_path, range(12, 14), first_step=11, loss=3.0)
    assert curve(tmp_path) == line(tmp_path)
    assert [loss for _, loss in line(tmp_path)] == [1.0] * 8 + [2.0] * 3 + [3.0] * 2


@pytest.mark.parametrize("damaged", [b"\0" * 40, b'{"step": 2, "lo', b'{"loss": 1.0}', b'{"loss": "\xff"}'])
def test_a_damaged_line_is_named_and_the_others_are_read_and_kept(tmp_path, caplog, damaged):
    write(tmp_path, range(1, 5)).close()
    lines = (tmp_path / METRICS).read_bytes().splitlines()
    (tmp_path / METRICS).write_bytes(b"\n".join([lines[0], damaged, *lines[2:], b'{"step": 5, "lo']))
    assert line(tmp_path) == [(1, 1.0), (3, 1.0), (4, 1.0)]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"line 2 of {tmp_path / METRICS} is damaged and was skipped"]
    write(tmp_path, [4], first_step=3).close()
    assert line(tmp_path) == [(1, 1.0), (3, 1.0), (4, 1.0)]
