"""`spe tune` under a real Ray, stopped and started again."""

import json
import os
import signal
import subprocess

import pytest

from launcher.finetune import read_arguments
from spe_dist.recipe import config_yaml
from tests.forked import clean_environment
from tests.integration.command import run
from tests.integration.ray_head import wait_until
from tests.integration.test_finetune_seeds import FINETUNE
from tests.unit.spe_dist.extraction.tiny_finetuning import config_in

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_trials_are_done_once_and_the_best_becomes_a_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(config_yaml(config_in(tmp_path)))  # it names test data
    command = [*FINETUNE[:-1], "tune", "--config", str(tmp_path / "recipe.yaml"), "--from", "bert", "--name", "t"]
    command += ["--seeds", "1", "--parallel", "1", "--grid", "train.epochs=30,31"]
    trials = tmp_path / "t/bert"
    with (tmp_path / "out").open("w") as out:
        stopped = subprocess.Popen(command, env=clean_environment(), stdout=out, stderr=subprocess.STDOUT)
        try:
            wait_until((trials / "trial-002/seed-1/config.yaml").exists, seconds=900, process=stopped)
        finally:
            stopped.send_signal(signal.SIGINT)
            status = stopped.wait(timeout=120)
        assert status == os.EX_TEMPFAIL
    told = (tmp_path / "out").read_text()
    assert (
        "stopped on request" in told and "Traceback" not in told and "bert, trial 1, seed 1: best after epoch" in told
    )
    first = (trials / "trial-001/seed-1/result.json").read_bytes()

    done = run(*command, "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == json.loads((tmp_path / "t/tuning.json").read_text())
    assert "1 of 2 fine-tunings were done before" in done.stderr
    assert (trials / "trial-001/seed-1/result.json").read_bytes() == first
    assert (tmp_path / "t/tuning.md").read_text() in done.stderr
    report = json.loads((tmp_path / "t/tuning.json").read_text())["starts"]["bert"]
    tried = {trial["number"]: trial["settings"]["train.epochs"] for trial in report["trials"]}
    assert sorted(tried.values()) == [30, 31]
    assert json.loads(first)["test"] is None
    assert not list((tmp_path / "t").rglob("model*")) and not list(trials.glob("*/predictions"))  # none of test
    best, _ = read_arguments(["--config", str(tmp_path / "t/best-bert.yaml")])
    assert best.train.epochs == tried[report["best"]]
