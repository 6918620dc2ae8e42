"""Several seeds of a fine-tuning under a real Ray, as a person starts, stops and resumes them."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spe_dist.recipe import config_yaml
from spe_dist.train.run_log import read_metrics
from tests.forked import clean_environment
from tests.integration.command import only_error, run
from tests.integration.ray_head import wait_until
from tests.unit.spe_dist.extraction.tiny_finetuning import config_in

pytestmark = pytest.mark.ray

FINETUNE = [str(Path(sys.executable).parent / "python"), "-c", "from launcher.cli import main; main()", "finetune"]
EPOCHS = 25


def test_seeds_fail_stop_and_go_on_alone(tmp_path):
    config = config_in(tmp_path, train={"epochs": EPOCHS, "batch_size": 2, "precision": "fp32", "patience": EPOCHS})
    (tmp_path / "recipe.yaml").write_text(config_yaml(config))
    command = [*FINETUNE, "--config", str(tmp_path / "recipe.yaml")]
    folder = Path(config.run_folder)
    folder.mkdir()
    (folder / "seed-2").write_text("in the way")

    # One seed fails, the other goes on to its end.
    done = run(*command, "--seeds", "2")
    error = only_error(done)
    assert "seed 2 failed" in error and "seed-2" in error and "the same command" in error, error
    assert "2 seeds, " in done.stdout and f"seed 1: epoch  {EPOCHS}" in done.stdout, done.stdout
    first = (folder / "seed-1/result.json").read_bytes()
    assert seeds_scored(folder) == {"1"} == seeds_scored(folder / "dev")
    assert (folder / "scores/scores.txt").read_text() in done.stdout
    assert (folder / "scores/scores.png").stat().st_size

    # A signal stops those that are not done; the one that is done is not trained again.
    (folder / "seed-2").unlink()
    with (tmp_path / "out").open("w") as out:
        stopped = subprocess.Popen(
            [*command, "--seeds", "3"], env=clean_environment(), stdout=out, stderr=subprocess.STDOUT
        )
        wait_until(lambda: list((folder / "seed-2/checkpoints").glob("step-*")), process=stopped)
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(timeout=120) == os.EX_TEMPFAIL
    told = (tmp_path / "out").read_text()
    assert "stopped on request" in told and "Traceback" not in told
    assert re.search(r"seed 1: .*\(done before\)", told)
    assert not (folder / "seed-2/result.json").exists()

    # Alone, without Ray, the seed goes on where it was; the scores are those of the whole run.
    alone = run(*command, "--seed", "2")
    assert alone.returncode == 0, alone.stderr[-2000:]
    assert "resumed" in alone.stdout
    assert [line["epoch"] for line in read_metrics(folder / "seed-2")] == list(range(1, EPOCHS + 1))
    assert seeds_scored(folder) >= {"1", "2"}
    assert (folder / "seed-1/result.json").read_bytes() == first


def seeds_scored(folder: Path) -> set[str]:
    return set(json.loads((folder / "scores/scores.json").read_text())["runs"][0]["seeds"])
