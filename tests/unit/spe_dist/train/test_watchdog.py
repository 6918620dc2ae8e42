"""A rank that hangs ends itself and says where it was."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.any_version

RANK = """
import sys, time
from pathlib import Path
from spe_dist.train.watchdog import watched
with watched(Path(sys.argv[1]), seconds=0.5) as alive:
    for _ in range(4):
        alive()
        time.sleep(0.3)
    print("steps made", flush=True)
    if sys.argv[2] == "hangs":
        time.sleep(60)
time.sleep(0.7)
print("ended well", flush=True)
"""


def rank(log, ending):
    return subprocess.run([sys.executable, "-c", RANK, log, ending], capture_output=True, text=True, timeout=50)


def test_a_rank_without_a_sign_of_life_ends_with_its_stacks_in_the_log(tmp_path):
    done = rank(tmp_path / "log", "hangs")
    assert (done.returncode, done.stdout) == (1, "steps made\n")
    assert "Timeout" in (tmp_path / "log").read_text() and "line 11 in <module>" in (tmp_path / "log").read_text()


def test_a_rank_that_has_ended_its_run_is_left_alone(tmp_path):
    done = rank(tmp_path / "log", "returns")
    assert (done.returncode, done.stdout) == (0, "steps made\nended well\n"), done.stderr
