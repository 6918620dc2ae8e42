"""The same command again: what it goes on with, what it says, and what it must not do in silence."""

import json
import os
import runpy
import shutil
import sys

import pytest

from spe_dist.checkpoint.reader import list_checkpoints
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import read_metrics
from tests.forked import run_as_only_rank, run_forked, run_script
from tests.integration.command import PRETRAIN, only_error, run, small_run
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

SCRIPT = ROOT / "launcher/pretrain.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of shards and a run of three steps."""
    folder = tmp_path_factory.mktemp("going-on")
    write_dataset(folder / "shards")
    done = run_as_only_rank(SCRIPT, *small_run(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of its own."""
    (tmp_path / "shards").symlink_to(trained / "shards")
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


def test_changed_settings_are_said_in_the_terminal_and_the_log(folder):
    done = run_as_only_rank(SCRIPT, *small_run(folder, "--train.steps=4", "--optimizer.learning_rate=0.5"))
    assert done.returncode == 0, done.stderr[-3000:]
    log = (folder / "runs/debug/logs/rank-0.log").read_text()
    for change in ("train.steps was 3 and is now 4", "optimizer.learning_rate was 0.01 and is now 0.5"):
        assert f"warning: {change}: the rest of the run will differ\n" in done.stdout
        assert f"{change}: the rest" in log


@pytest.mark.slow
@pytest.mark.ray
def test_changed_settings_are_said_under_ray(folder):
    done = run(*PRETRAIN, *small_run(folder, "--train.steps=4", "--cluster.workers=1"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "warning: train.steps was 3 and is now 4: the rest of the run will differ\n" in done.stdout


def test_a_run_whose_checkpoints_were_deleted_is_not_begun_again_in_silence(folder):
    whole = folder / "runs/debug"
    before = (whole / METRICS).read_bytes()
    for checkpoint in list_checkpoints(whole / "checkpoints"):
        shutil.rmtree(checkpoint)
    error = only_error(run_as_only_rank(SCRIPT, *small_run(folder)))
    assert f"{whole} has saved step 3, but its checkpoints are gone: restore {whole}/checkpoints" in error
    assert (whole / METRICS).read_bytes() == before
    shutil.rmtree(whole)
    assert run_as_only_rank(SCRIPT, *small_run(folder)).returncode == 0


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again_and_says_so(folder):
    whole = folder / "runs/debug"
    shutil.rmtree(whole / "checkpoints")
    (whole / "latest").unlink()
    done = run_as_only_rank(SCRIPT, *small_run(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "warning: resuming after step 0: removed 3 later lines of metrics\n" in done.stdout
    assert [line["step"] for line in read_metrics(whole)] == [1, 2, 3]


def test_a_damaged_line_of_metrics_does_not_keep_a_run_from_going_on(folder):
    path = folder / "runs/debug" / METRICS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0" * 30 + b"\n" + lines[2])
    done = run_as_only_rank(SCRIPT, *small_run(folder, "--train.steps=4"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"warning: line 2 of {path} is damaged and was skipped\n" in done.stdout
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3, 4]


@pytest.mark.parametrize("under", ["torchrun", "Ray"])
def test_a_file_in_place_of_the_run_folder(trained, tmp_path, under):
    (tmp_path / "debug").write_text("mine")
    arguments = small_run(trained, f"--run.folder={tmp_path}", "--cluster.workers=1")
    done = (run_as_only_rank if under == "torchrun" else run_script)(SCRIPT, *arguments)
    assert f"cannot write to {tmp_path}/debug: {tmp_path}/debug is a file, not a folder" in only_error(done)


def pretrain_into_a_full_disk(arguments):
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    sys.argv[:] = [str(SCRIPT), *arguments]
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_a_full_disk_under_standard_output_does_not_end_a_run(folder):
    as_only_rank = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "1"}
    done = run_forked(pretrain_into_a_full_disk, small_run(folder, "--train.steps=4"), **as_only_rank)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("cannot write to standard output any more") == 1
    assert [line["step"] for line in read_metrics(folder / "runs/debug")] == [1, 2, 3, 4]
