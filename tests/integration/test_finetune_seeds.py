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
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import read_metrics
from tests.integration.command import clean_environment, only_error, run
from tests.integration.ray_head import wait_until
from tests.unit.spe_dist.extraction.test_finetune import config_in

pytestmark = pytest.mark.ray

FINETUNE = [str(Path(sys.executable).parent / "python"), "-c", "from launcher.cli import main; main()", "finetune"]
EPOCHS = 4


def test_seeds_fail_stop_and_go_on_alone(tmp_path):
    config = config_in(tmp_path, train={"epochs": EPOCHS, "batch_size": 2, "precision": "fp32", "patience": 30})
    (tmp_path / "recipe.yaml").write_text(config_yaml(config))
    command = [*FINETUNE, "--config", str(tmp_path / "recipe.yaml")]
    folder = Path(config.run_folder)
    folder.mkdir()
    (folder / "seed-2").write_text("in the way")

    # One seed fails, the others go on to their end.
    done = run(*command, "--seeds", "3", "--parallel=2")
    error = only_error(done)
    assert "seed 2 failed" in error and "seed-2" in error and "the same command" in error, error
    assert "3 seeds, 2 at the same time" in done.stdout
    assert f"seed 3: epoch   {EPOCHS}" in done.stdout, done.stdout
    results = {seed: (folder / f"seed-{seed}/result.json").read_bytes() for seed in (1, 3)}
    written = json.loads((folder / "scores/scores.json").read_text())
    assert written["runs"][0]["seeds"].keys() == {"1", "3"}
    assert (folder / "scores/scores.txt").read_text() in done.stdout
    assert (folder / "scores/scores.png").stat().st_size and (folder / "dev/scores/scores.txt").exists()

    # A signal stops those that are not done; the ones that are done are not trained again.
    (folder / "seed-2").unlink()
    more = [*command, "--seeds", "4", "--train.epochs", str(EPOCHS)]
    with (tmp_path / "out").open("w") as out:
        stopped = subprocess.Popen(more, env=clean_environment(), stdout=out, stderr=subprocess.STDOUT)
        wait_until(lambda: (folder / "seed-2" / METRICS).exists() and read(folder / "seed-2"), process=stopped)
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(timeout=120) == os.EX_TEMPFAIL
    told = (tmp_path / "out").read_text()
    assert "stopped as asked" in told and "Traceback" not in told
    assert len(re.findall(r"seed [13]: .*\(done before\)", told)) == 2
    assert not (folder / "seed-2/result.json").exists()

    # Alone, without Ray, the seed goes on where it was; the scores are those of the whole run.
    alone = run(*command, "--seed", "2")
    assert alone.returncode == 0, alone.stderr[-2000:]
    assert "resumed" in alone.stdout
    assert [line["epoch"] for line in read_metrics(folder / "seed-2")] == list(range(1, EPOCHS + 1))
    assert json.loads((folder / "scores/scores.json").read_text())["runs"][0]["seeds"].keys() >= {"1", "2", "3"}
    assert results == {seed: (folder / f"seed-{seed}/result.json").read_bytes() for seed in (1, 3)}


def read(folder: Path) -> list[dict]:
    """Whole lines of metrics of a seed that has a checkpoint."""
    return read_metrics(folder) if list((folder / "checkpoints").glob("step-*")) else []
