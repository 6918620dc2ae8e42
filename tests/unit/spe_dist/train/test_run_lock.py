"""Two runs in one folder: only one writes."""

import errno
import os
import subprocess
import sys

import pytest

from data_shards.errors import UserError
from spe_dist.engine.world import World
from spe_dist.train import run_lock
from spe_dist.train.run_lock import RunLock

pytestmark = pytest.mark.any_version

HOLDER = """
import sys, time
from pathlib import Path
from spe_dist.engine.world import World
from spe_dist.train.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]), World())
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_told_who_is_there(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(run_lock, "_WAIT_SECONDS", 0.3)
    with pytest.raises(UserError, match=f"another run is using {tmp_path / 'run'} .process {holder.pid} on"):
        RunLock(tmp_path / "run", World())


def test_a_killed_run_holds_nothing(tmp_path, holder):
    holder.kill()
    RunLock(tmp_path / "run", World()).release()


def test_a_released_lock_can_be_taken_again(tmp_path):
    for _ in range(2):
        RunLock(tmp_path, World()).release()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_without_locks_a_run_goes_on_with_a_warning(tmp_path, monkeypatch, caplog, number):
    def refuse(file, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    RunLock(tmp_path, World()).release()
    assert "has no locks" in caplog.text and "a second run on it would not be refused" in caplog.text
