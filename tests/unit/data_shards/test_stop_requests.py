"""Commands that are asked to end: in processes of their own, as signals belong to a process."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from tests.integration.command import clean_environment
from tests.unit.spe_dist.tiny_run import ROOT

RUN = "from launcher.run_command import run_command\n"
REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPABLE = """
import os, signal, time
from data_shards.stop_requests import stopped_on_request

def command(_):
    with stopped_on_request("stopped; the same command goes on"):
        os.kill(os.getpid(), signal.%s)
        time.sleep(60)
"""
TWICE = """
import os, signal, time
from data_shards.stop_requests import first_request

def command(_):
    with first_request(lambda: print("asked", flush=True)):
        for number in (%s):
            os.kill(os.getpid(), number)
        print("goes on")
"""


def run(code, *before, **more):
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    command = [*before, sys.executable, "-c", f"{code}\n{RUN}run_command(command)"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, **more)


@pytest.mark.parametrize("number", REQUESTS)
def test_a_command_that_is_asked_to_end_says_one_line_and_that_it_can_go_on(number):
    done = run(STOPPABLE % number.name)
    assert (done.returncode, done.stdout, done.stderr) == (os.EX_TEMPFAIL, "stopped; the same command goes on\n", "")


def test_under_nohup_a_closed_terminal_is_no_request():
    code = STOPPABLE.replace("time.sleep(60)", "print('unharmed')")
    assert run(code % "SIGHUP", "nohup").stdout == "unharmed\n"
    assert "unharmed" not in run(code % "SIGHUP").stdout


@pytest.mark.parametrize(
    ("numbers", "status", "said"),
    [
        ("signal.SIGINT, signal.SIGTERM", 128 + signal.SIGTERM, "asked\n"),
        ("signal.SIGHUP, signal.SIGHUP", 0, "asked\ngoes on\n"),  # of the system, and of a shell
    ],
)
def test_a_second_request_ends_at_once_but_a_terminal_is_closed_only_once(numbers, status, said):
    done = run(TWICE % numbers)
    assert (done.returncode, done.stdout) == (status, said), done.stderr


def test_ctrl_c_without_anything_to_keep_is_one_word():
    code = "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    done = run(code + "def command(_): os.kill(os.getpid(), signal.SIGINT)")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_what_is_said_after_the_terminal_was_closed_is_no_error(tmp_path):
    code = f"""
import time
from pathlib import Path
from data_shards.stop_requests import first_request

def command(_):
    closed = []
    with first_request(lambda: closed.append(True)):
        print("here", flush=True)
        while not closed:
            time.sleep(0.01)
        print("still here", flush=True)
    Path({str(tmp_path / "end")!r}).touch()
"""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", f"{code}\n{RUN}run_command(command)"])
    while b"here" not in os.read(terminal, 1000):
        time.sleep(0.01)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert (tmp_path / "end").exists()


def test_handlers_go_with_the_block():
    from data_shards.stop_requests import stopped_on_request

    before = [signal.getsignal(number) for number in REQUESTS]
    with stopped_on_request("stopped"):
        assert [signal.getsignal(number) for number in REQUESTS] != before
    assert [signal.getsignal(number) for number in REQUESTS] == before
