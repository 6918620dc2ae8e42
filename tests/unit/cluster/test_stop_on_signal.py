"""The driver's handlers; what happens then to a run, tests/exactness/test_stopping.py sees."""

import os
import signal

import pytest

from cluster.ray_train import _stop_file_on_signal
from tests.forked import run_forked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_write_the_stop_file_and_the_handlers_go_afterwards(tmp_path, number):
    before = signal.getsignal(number)
    with _stop_file_on_signal(tmp_path / "run"):
        assert not (tmp_path / "run" / "STOP").exists()
        signal.raise_signal(number)
        assert (tmp_path / "run" / "STOP").exists()
    assert signal.getsignal(number) is before


def test_a_stop_file_left_by_an_earlier_run_does_not_stop_this_one(tmp_path):
    (tmp_path / "STOP").touch()
    with _stop_file_on_signal(tmp_path):
        assert not (tmp_path / "STOP").exists()


def test_the_second_signal_ends_at_once(tmp_path):
    done = run_forked(interrupt_twice, tmp_path)
    assert done.returncode == 128 + signal.SIGINT and not (tmp_path / "still here").exists(), done.stderr


def interrupt_twice(folder):
    with _stop_file_on_signal(folder):
        os.kill(os.getpid(), signal.SIGINT)
        assert (folder / "STOP").exists()
        os.kill(os.getpid(), signal.SIGINT)
        (folder / "still here").touch()
