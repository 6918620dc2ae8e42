"""How commands end when nobody reads what they print, or it cannot be written."""

import json
import os
import subprocess
import sys

import pytest

from launcher.output import print_json
from tests.integration.command import clean_environment
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = pytest.mark.any_version

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


def to_a_full_disk(*command, cwd):
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        return subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment, timeout=100
        )


@pytest.mark.parametrize("lines", [1, 5000])
def test_a_command_whose_output_cannot_be_written_ends_with_one_line(tmp_path, lines):
    prints = (
        f"from launcher.run_command import run_command\nrun_command(lambda _: [print('x' * 9) for _ in range({lines})])"
    )
    done = to_a_full_disk(sys.executable, "-c", prints, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output, or a file of this command, cannot be written (No space left on device): "
        "free some space\n"
    )


def test_what_does_not_live_by_its_output_goes_on_without(tmp_path):
    says = "from launcher.run_command import run_command\nfrom launcher.output import say\n"
    says += "run_command(lambda _: [say(str(number)) for number in range(3)])"
    done = to_a_full_disk(sys.executable, "-c", says, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "cannot write to standard output any more (No space left on device)" in done.stderr


def test_json_has_null_where_there_is_no_number(capsys):
    print_json({"f1": [float("nan"), 1.5], "more": {"p": float("inf")}})

    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"f1": [None, 1.5], "more": {"p": None}}
