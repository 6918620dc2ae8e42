"""Metrics outlive a disk that has no room for a while."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spe_dist.train import run_log
from spe_dist.train.run_log import RunLog, read_metrics
from tests.faults.small_disk import filled, mounted

# TensorBoard's own thread dies of it; a new one is started.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk", 200) as folder:
        yield folder


def test_lines_wait_for_room_and_none_is_lost_or_torn(disk, caplog):
    log = RunLog(disk, first_step=0)
    log.write({"step": 1, "loss": 1.0})
    with filled(disk):
        for step in range(2, 200):
            log.write({"step": step, "loss": 1.0, "text": "x" * 100})
    assert "cannot write metrics" in caplog.text and "No space left on device" in caplog.text
    log.write({"step": 200, "loss": 1.0})
    log.close()
    assert [line["step"] for line in read_metrics(disk)] == list(range(1, 201))


def test_curves_go_on_when_there_is_room_again(disk, caplog, monkeypatch):
    monkeypatch.setattr(run_log, "_CURVES_WAIT", 0.0)
    log = RunLog(disk, first_step=0)
    log.write({"step": 1, "loss": 1.0})
    log._board.flush()
    with filled(disk):
        step = 1
        while "cannot write curves" not in caplog.text:
            step += 1
            log.write({"step": step, "loss": 1.0})
            assert step < 10_000
    log.write({"step": step + 1, "loss": 1.0})
    log.close()
    events = EventAccumulator(str(disk / "tensorboard"))
    events.Reload()
    steps = [point.step for point in events.Scalars("loss")]
    assert steps[0] == 1 and steps[-1] == step + 1
