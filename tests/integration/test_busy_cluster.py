"""A cluster whose cores another command holds: what waits says so, can be stopped, and disturbs nobody."""

import os
import secrets
import signal
import sys
from contextlib import ExitStack

import pytest
import ray

from launcher.recipe_arguments import read_arguments
from tests.faults.command_runs import CommandRun
from tests.faults.trials import last_step, wait_until
from tests.forked import clean_environment
from tests.integration.command import only_error, run, small_run
from tests.integration.ray_head import ray_head
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

JOIN_WITH_ANOTHER_RAY = """
import ray
ray.__version__ = "0.1"
from launcher.pretrain import main
from launcher.run_command import run_command
run_command(main)
"""


def test_a_command_that_waits_says_for_what_and_a_request_to_stop_is_not_for_the_run_of_the_same_folder(
    shards, tmp_path
):
    config, _ = read_arguments(
        small_run(shards, f"--run.folder={tmp_path}", "--cluster.workers=1", "--train.steps=100000")
    )
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    with ExitStack() as stack:
        head = stack.enter_context(ray_head(clean_environment() | token, cpus=1))
        cluster = token | {"RAY_ADDRESS": head.address}
        first = stack.enter_context(CommandRun(config, **cluster))
        first.wait_for_step(2)
        with CommandRun(config, **cluster) as second:
            waits = "waiting for the cluster: 1 worker needs 1 CPU each; free: 0 of 1 CPUs"
            wait_until(lambda: waits in second.output or second.process.poll() is not None, seconds=120, what="a line")
            second.process.send_signal(signal.SIGTERM)
            assert second.wait(seconds=60) == os.EX_TEMPFAIL, second.output
            assert "stopped on request before the first step" in second.output and "Traceback" not in second.output
            said = [line for line in second.output.splitlines() if not line.startswith("step ")]  # it shows the first's
            assert len(said) <= 6, said  # and a line or two more if the machine is slow
        first.wait_for_step(last_step(first.folder) + 2)
        first.process.send_signal(signal.SIGINT)
        assert first.wait() == os.EX_TEMPFAIL, first.output
        assert f"stopped after step {last_step(first.folder)} on request, and saved" in first.output
        # Not forked: Ray reads its way of authentication when it is imported.
        error = only_error(run(sys.executable, "-c", JOIN_WITH_ANOTHER_RAY, *small_run(shards), cwd=ROOT, **cluster))
        assert f"runs Ray {ray.__version__} on Python" in error and "here are Ray 0.1 and Python" in error
