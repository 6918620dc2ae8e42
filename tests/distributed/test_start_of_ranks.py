"""Ranks that wait for each other when a run starts."""

import os
import socket
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, run

import pytest
import torch.distributed as dist

from spe_dist.engine import world as world_module
from spe_dist.engine.world import World, start_process_group
from tests.forked import clean_environment, forking_context

pytestmark = pytest.mark.distributed
ROOT = Path(__file__).parents[2]
SCRIPT = """
from data_shards.errors import UserError
from spe_dist.engine.world import World, start_process_group

try:
    start_process_group(World.from_environment())
except UserError as error:
    raise SystemExit(f"error: {error}")
"""


def test_a_port_of_0_is_refused_on_every_rank_and_the_remedy_named(tmp_path):
    (tmp_path / "rank.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    done = run([*command, tmp_path / "rank.py"], env=environment, stderr=PIPE, text=True, timeout=120)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines and all("MASTER_PORT is 0" in line and "--standalone" in line for line in lines)


def start_as_rank(rank, port, first, following, path):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), 2)
    world_module._FIRST_LINE_SECONDS, world_module._NEXT_LINE_SECONDS = first, following
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    start_process_group(World.from_environment())
    dist.barrier()


@contextmanager
def started(*arguments):
    process = forking_context().Process(target=start_as_rank, args=arguments, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def wait_for_lines(path, count):
    deadline = time.monotonic() + 60
    while len(lines_of(path)) < count:
        assert time.monotonic() < deadline, lines_of(path)
        time.sleep(0.05)


@pytest.mark.parametrize("alone", [0, 1])
def test_a_rank_says_for_how_many_it_waits_and_where_until_they_come(tmp_path, alone):
    port, (early, late) = free_port(), (tmp_path / "early", tmp_path / "late")
    with started(alone, port, 0.3, 0.5, early) as first:
        wait_for_lines(early, 3)
        told = lines_of(early)
        assert told[0].startswith(f"rank {alone} has waited 0 s for all 2 ranks to connect at 127.0.0.1:{port}: ")
        assert "has waited 1 s" in told[2]
        with started(1 - alone, port, 30.0, 30.0, late) as second:
            for process in (first, second):
                process.join(60)
                assert process.exitcode == 0
    assert lines_of(late) == []
