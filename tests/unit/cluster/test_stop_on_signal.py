"""The driver's handlers; what happens then to a run, tests/exactness/test_stopping.py sees."""

import signal
import subprocess
import sys

import pytest

from cluster.ray_train import _stop_file_on_signal

_TWICE = """
import os, signal, sys
from pathlib import Path
from cluster.ray_train import _stop_file_on_signal
with _stop_file_on_signal(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGINT)
    assert Path(sys.argv[1], "STOP").exists()
    os.kill(os.getpid(), signal.SIGINT)
    print("still here")
"""


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
    done = subprocess.run([sys.executable, "-c", _TWICE, tmp_path], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT and "still here" not in done.stdout, done.stderr
