"""Without Ray: torchrun's own elasticity, one agent per machine, of which one is lost and comes back."""

import sys
from pathlib import Path

import pytest

from spe_dist.train.start_times import read_starts
from tests.faults.command_runs import PATIENCE, CommandRun, free_port
from tests.faults.laboratory import Laboratory
from tests.faults.trials import judge_beginning, last_step, wait_until
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.distributed, pytest.mark.timeout(600)]
# torchrun keeps one store for all attempts, and ranks of one would meet the dead of another (see engine/world.py).
STORE_OF_ATTEMPT = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def test_a_machine_is_lost_and_comes_back(tmp_path):
    laboratory = Laboratory(tmp_path, seed=1)
    config = laboratory.config(train={"steps": 100_000})
    agent = elastic_agent(free_port())
    with CommandRun(config, launcher=agent, **STORE_OF_ATTEMPT) as first:
        second = CommandRun(config, launcher=agent, **STORE_OF_ATTEMPT)
        with second:
            wait_for_start(first, ranks=2)
        wait_for_start(first, ranks=1)  # the context has killed the second agent and its rank
        with CommandRun(config, launcher=agent, **STORE_OF_ATTEMPT):
            wait_for_start(first, ranks=2)
            (first.folder / "STOP").touch()
            first.wait()
    assert [start["world_size"] for start in read_starts(first.folder)] == [2, 1, 2]
    assert judge_beginning(first.folder, laboratory.alone).wrong is None


def elastic_agent(port: int) -> list[str]:
    """torchrun of one of up to two machines of one rank each."""
    rendezvous = ["--rdzv-id=elastic", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"]
    patience = ["--rdzv-conf=last_call_timeout=5", "--monitor-interval=0.2", "--max-restarts=9"]
    torchrun = str(Path(sys.executable).parent / "torchrun")
    return [torchrun, "--nnodes=1:2", "--nproc-per-node=1", *rendezvous, *patience, str(ROOT / "launcher/pretrain.py")]


def wait_for_start(run: CommandRun, *, ranks: int) -> None:
    """Until the newest start is one of so many ranks, and has made a few steps."""

    def started() -> bool:
        starts = read_starts(run.folder)
        return (
            bool(starts) and starts[-1]["world_size"] == ranks and last_step(run.folder) > starts[-1]["after_step"] + 3
        )

    wait_until(lambda: started() or run.process.poll() is not None, seconds=PATIENCE, what=f"a start of {ranks} ranks")
    assert run.process.poll() is None, run.output[-3000:]
