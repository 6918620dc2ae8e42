"""`spe compare-pretraining` from pre-training to its table, stopped and started again."""

import json
import os
import re
import signal
import subprocess

import pytest
import yaml

from data_shards.annotated.unified import write_unified
from launcher.recipe_arguments import find_recipe
from tests.forked import clean_environment
from tests.integration.command import run
from tests.integration.ray_head import wait_until
from tests.integration.test_finetune_seeds import FINETUNE
from tests.unit.spe_dist.extraction.tiny import SENTENCES
from tests.unit.spe_dist.tiny_run import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3000)]  # Ray starts seven times

VARIANTS = ["full", "no_head", "no_cnn", "momentum", "none"]
COMPARE = [*FINETUNE[:-1], "compare-pretraining"]


@pytest.fixture
def recipe(shards, tmp_path):
    write_unified(SENTENCES, tmp_path / "data.jsonl")
    values = yaml.safe_load(find_recipe("ablations_spe_cpu").read_text())
    pretrain = {f"{section}.{key}": value for section, part in SMALL.items() for key, value in part.items()}
    pretrain |= {"data.shards": str(shards / "shards"), "cluster.workers": 1}
    tasks = values["tasks"]["extraction"] | {"fractions": {1.0: {}}, "grid": {"train.epochs": [2, 3]}}
    tasks["settings"] |= {f"data.{part}": str(tmp_path / "data.jsonl") for part in ("train", "dev", "test")}
    values |= {
        "run": {"name": "tiny", "folder": str(tmp_path)},
        "variants": {name: values["variants"][name] for name in VARIANTS},
        "budget": {"of": "hours", "amount": 1e-6},
        "pretrain": pretrain,
        "tasks": {"extraction": tasks},
        "seeds": 1,
        "papers": [],
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def test_every_cell_is_trained_once_and_stands_in_the_table(recipe, tmp_path):
    command, folder = [*COMPARE, "--config", str(recipe)], tmp_path / "tiny"
    with (tmp_path / "out").open("w") as out:
        stopped = subprocess.Popen(command, env=clean_environment(), stdout=out, stderr=subprocess.STDOUT)
        first = folder / "finetune/extraction-1-trial-1/full/seed-1/config.yaml"
        try:
            wait_until(first.exists, seconds=1200, process=stopped)
        finally:
            stopped.send_signal(signal.SIGTERM)
            status = stopped.wait(timeout=120)
        assert status in (os.EX_TEMPFAIL, 128 + signal.SIGTERM)
    starts = (folder / "pretrain/full/starts.jsonl").read_bytes()
    done = run(*command, "--json", timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "pretrain/full/starts.jsonl").read_bytes() == starts  # not trained again
    assert {path.name for path in (folder / "pretrain").iterdir()} == {"full", "no_head"}
    assert {path.name for path in (folder / "measured").iterdir()} == {"full", "no_head"}
    table = (folder / "comparison.md").read_text()
    assert table in done.stderr and "| train.epochs " in table
    cells = json.loads(done.stdout)["cells"]
    assert cells == json.loads((folder / "comparison.json").read_text())["cells"]
    assert [cell["variant"] for cell in cells] == VARIANTS
    logs = {
        name: (folder / f"finetune/extraction-1-trial-1/{name}/seed-1/finetune.log").read_text() for name in VARIANTS
    }
    assert "loaded: sentence encoder of" in logs["full"] and "span pair encoder of" in logs["full"]
    assert f"{folder}/pretrain/full/momentum" in logs["momentum"]
    assert re.search(r"left out: .*span encoder of .*, span pair encoder of", logs["no_cnn"])
    assert "loaded: nothing" in logs["none"]
    assert not list(folder.glob("finetune/*/*/seed-1/model"))
    again = run(*command)
    assert table in again.stdout and "==" not in again.stdout  # nothing is left to do
