"""How commands end when nobody reads what they print."""

import os
import subprocess
import sys

import pytest

from tests.integration.command import clean_environment
from tests.unit.spe_dist.tiny_run import ROOT

SPE = [sys.executable, "-c", "from launcher.cli import main; main()"]


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["data", "check", "data.jsonl"]])
def test_without_a_reader_a_command_ends_quietly(tmp_path, arguments):
    (tmp_path / "data.jsonl").write_text('{"tokens": ["Ada"], "entities": []}\n')
    read, write = os.pipe()
    os.close(read)
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*SPE, *arguments], stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment, timeout=100
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_not_hidden():
    fails = "from launcher.run_command import run_command\ndef fail(_): raise BrokenPipeError\nrun_command(fail)"
    done = subprocess.run([sys.executable, "-c", fails], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and "BrokenPipeError" in done.stderr
