"""Metrics and curves are the same, and outlive full disks, clocks that are set back, kills and damaged lines."""

import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spe_dist.methods.registry import find_method
from spe_dist.train.metric_names import curve_name
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import RunLog, format_lines, format_metrics, read_metrics
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
    return [(point.step, point.value) for point in events.Scalars("objective/loss")]


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


@pytest.mark.parametrize("method", ["spe", "enpar", "erica", "mlm", "mtb"])
def test_a_line_of_a_step_has_every_objective_in_a_hundred_columns(method):
    columns = find_method(method, source="").columns
    largest = {column.metric: 9.432 if column.metric.endswith("loss") else 1.0 for column in columns}
    line = format_metrics({"step": 40_000, "loss": 20.983, **largest, "records_per_second": 1234.5}, columns)
    assert len(line) <= 100
    assert line.startswith("step  40000  loss 20.983  ") and line.endswith("  1234 records/s")
    objectives = {column.metric.removesuffix("_loss") for column in columns if column.metric.endswith("_loss")}
    assert {name for name in objectives if f" {name} 9.43" in line} == objectives
    assert line.count(" 100%") == len(objectives)
    held_out = {f"held_out_{name}": value for name, value in (largest | {"loss": 20.983}).items()}
    _, line = format_lines({"step": 40_000, **held_out}, columns)
    assert line.startswith("step  40000  held out: loss 20.983  ") and len(line) <= 100
    assert {name for name in objectives if f" {name} 9.43" in line} == objectives


def test_what_was_measured_on_held_out_records_has_a_line_of_its_own():
    metrics = {"step": 20, "loss": 3.0, "mlm_loss": 2.0, "held_out_mlm_loss": 2.5, "held_out_mlm_accuracy": 0.25}
    lines = format_lines(metrics | {"held_out_loss": 4.0}, find_method("mlm", source="").columns)
    assert lines == ["step     20  loss  3.000  mlm 2.000", "step     20  held out: loss  4.000  mlm 2.500 25%"]


def test_a_line_leaves_out_what_has_no_room_and_no_value():
    dev = {f"dev_measure_{number}": 0.5 for number in range(20)}
    line = format_metrics({"epoch": 3, "step": 12, "loss": float("nan"), "dev_entity_f1": 0.685, **dev})
    assert line.startswith("epoch   3  step     12  dev: entities 68.5%  measure_0 50.0%") and 80 < len(line) <= 100


def test_curves_are_in_sections():
    expected = {
        "loss": "objective/loss", "rd_ss_accuracy": "objective/rd_ss_accuracy",
        "queue_filled": "objective/queue_filled",
        "learning_rate": "optimizer/learning_rate", "gradient_norm": "optimizer/gradient_norm",
        "records_per_second": "speed/records_per_second", "mfu": "speed/mfu", "memory_gib": "speed/memory_gib",
        "records_seen": "run/records_seen", "failed_saves": "run/failed_saves",
        "probe_rd_1_nn": "probe/rd_1_nn", "held_out_tbo_loss": "held_out/tbo_loss", "dev_entity_f1": "dev/entity_f1",
        "best_dev_entity_f1": "best/dev_entity_f1",
    }  # fmt: skip
    assert {name: curve_name(name) for name in expected} == expected
