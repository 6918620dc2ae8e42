"""`spe shards build` asked to stop: one line, and the same command goes on. In a batch job's long temporary folder."""

import os
import signal
import subprocess
import sys

import pytest

from data_shards.sample.corpus import generate
from tests.faults.command_runs import SPE
from tests.forked import clean_environment
from tests.integration.ray_head import wait_until
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_build_that_is_stopped_goes_on(tmp_path, number):
    (tmp_path / "text.txt").write_text("\n".join(" ".join(one.words) for one in generate(400, seed=3)) + "\n")
    temporary = tmp_path / ("slurm_jobdir_of_a_group" * 4)
    temporary.mkdir()
    out = tmp_path / "shards"
    command = [SPE, "shards", "build", tmp_path / "text.txt", "--out", out, "--tokenizer", DEBUG_VOCAB]
    command = [*map(str, command), "--unit-documents=20", "--parallelism=1"]
    settings = {
        "env": clean_environment() | {"TMPDIR": str(temporary)}, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
        "text": True, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    }  # fmt: skip
    build = subprocess.Popen(command, **settings)
    wait_until(lambda: list(out.glob(".units/*.json")), process=build)  # written after its shard
    build.send_signal(number)
    stdout, stderr = build.communicate(timeout=100)
    said = "stopped on request; finished parts are kept, and the same command resumes\n"
    assert (build.returncode, stdout, stderr) == (os.EX_TEMPFAIL, said, "")
    assert list(out.glob("*.tar")) and not (out / "manifest.json").exists()
    done = subprocess.run(command, timeout=300, check=False, **settings)
    assert (done.returncode, done.stderr) == (0, "") and "finished before: " in done.stdout


_STOPPED_WITHIN_RAY = """
from data_shards.pipeline.unit_pipeline import rows_of_their_own, running_ray
from data_shards.stop_requests import Stopped

def stop(*_, **__):
    raise Stopped

def read():
    for _ in rows_of_their_own([{"row": 1}, {"row": 2}]).iter_rows():
        pass

try:
    with running_ray(1):
        from ray.data.iterator import DataIterator
        DataIterator._create_batch_iterator = stop  # what runs right after the first row is there
        read()
except Stopped:
    print("stopped")
"""


@pytest.mark.ray
def test_a_stop_while_ray_data_begins_leaves_no_run_behind():
    settings = {"capture_output": True, "text": True, "env": clean_environment(), "timeout": 100, "check": False}
    done = subprocess.run([sys.executable, "-c", _STOPPED_WITHIN_RAY], **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
