"""The file STOP, and signals to a rank."""

import fcntl
import os
import signal
import sys

import pytest

from spe_dist.engine.world import World
from spe_dist.train.run_lock import LOCK
from spe_dist.train.stop_signal import STOP_FILE, Ask, StopSignal, remove_stale_stop_file
from tests.forked import run_forked
from tests.unit.spe_dist.tiny_run import train_tiny_run


def test_a_stop_file_of_an_earlier_run_is_removed_and_one_for_a_run_that_goes_on_is_not(tmp_path):
    remove_stale_stop_file(tmp_path / "not there")
    (tmp_path / STOP_FILE).touch()
    with (tmp_path / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_stale_stop_file(tmp_path)
        assert (tmp_path / STOP_FILE).exists()
    remove_stale_stop_file(tmp_path)
    assert not (tmp_path / STOP_FILE).exists()


def test_a_stop_file_that_comes_at_the_last_step_does_not_stop_the_next_start(tmp_path):
    (tmp_path / "runs/tiny").mkdir(parents=True)
    (tmp_path / "runs/tiny" / STOP_FILE).touch()
    assert not (train_tiny_run(tmp_path, train={"steps": 1}) / STOP_FILE).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_to_a_rank_stop_it_once_however_many_come(tmp_path, number):
    done = run_forked(signalled, tmp_path, number)
    assert done.stdout == str([Ask.NOTHING, Ask.STOP, Ask.STOP]), done.stderr


def signalled(folder, number):
    stop = StopSignal(folder, World())
    answers = [stop.poll()]
    for _ in range(3):
        os.kill(os.getpid(), number)
    stop.poll()  # the answer is one step old
    sys.stdout.write(str([*answers, stop.poll(), stop.poll()]))
