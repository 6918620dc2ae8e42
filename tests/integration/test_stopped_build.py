"""`spe shards build` asked to stop: one line, and the same command goes on. In a batch job's long temporary folder."""

import os
import signal
import subprocess

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
