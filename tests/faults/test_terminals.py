"""A run in a real terminal: Ctrl-C is typed there, or the terminal is closed; either way it saves."""

import os
import pty
import select
import signal
import termios
import time
from contextlib import contextmanager

import psutil
import pytest

from spe_dist.checkpoint.reader import fault_of, list_checkpoints
from spe_dist.train.run_folder import CHECKPOINTS
from spe_dist.train.run_log import read_metrics
from spe_dist.train.start_times import read_starts
from tests.faults.command_runs import PATIENCE, torchrun
from tests.faults.trials import last_step
from tests.forked import clean_environment
from tests.integration.command import PRETRAIN, small_run

pytestmark = [pytest.mark.distributed, pytest.mark.ray]

LAUNCHERS = {"torchrun": torchrun(2, restarts=0), "Ray": PRETRAIN}


@contextmanager
def in_terminal(command):
    """A command in a terminal of its own; its process, and the end that a person types at."""
    process, terminal = pty.fork()
    if process == 0:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.execve(command[0], command, clean_environment())
    family = set()
    try:
        yield psutil.Process(process), terminal, family
    finally:
        for one in family:
            if one.is_running():
                one.kill()


def read_until(condition, terminal):
    """What the command says, until something is so."""
    said, end = b"", time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, said.decode(errors="replace")[-3000:]
        if terminal is not None and select.select([terminal], [], [], 0.1)[0]:
            try:
                said += os.read(terminal, 65536)
            except OSError:  # the last process in it has ended
                terminal = None
    return said.decode(errors="replace")


@pytest.mark.parametrize(
    ("launcher", "closed"),
    [
        pytest.param("torchrun", False),
        pytest.param("torchrun", True, marks=pytest.mark.slow),
        pytest.param("Ray", False, marks=pytest.mark.slow),
        pytest.param("Ray", True, marks=pytest.mark.slow),
    ],
)
def test_a_run_whose_terminal_interrupts_it_or_is_closed_saves_once(shards, tmp_path, launcher, closed):
    folder = tmp_path / "debug"
    settings = small_run(shards, f"--run.folder={tmp_path}", "--train.steps=100000", "--data.workers=1")
    command = [*LAUNCHERS[launcher], *settings, "--train.checkpoint_every=100000"]
    with in_terminal(command) as (process, terminal, family):
        said = read_until(lambda: last_step(folder) >= 3 or process.status() == psutil.STATUS_ZOMBIE, terminal)
        assert last_step(folder) >= 3, said
        family |= {process, *process.children(recursive=True)}
        if closed:
            os.close(terminal)
        else:
            assert termios.tcgetattr(terminal)[6][termios.VINTR] == b"\x03"
            os.write(terminal, b"\x03")
        said = read_until(lambda: process.status() == psutil.STATUS_ZOMBIE, None if closed else terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
    if launcher == "Ray":  # torchrun has statuses, and words, of its own
        assert status == os.EX_TEMPFAIL and "Traceback" not in said, said
    steps = [line["step"] for line in read_metrics(folder)]
    (checkpoint,) = list_checkpoints(folder / CHECKPOINTS)
    assert checkpoint.name == f"step-{steps[-1]:09d}" and fault_of(checkpoint) is None
    assert len(read_starts(folder)) == 1 and not (folder / "STOP").exists()
    if not closed:
        assert f"stopped after step {steps[-1]} on request, and saved" in said
