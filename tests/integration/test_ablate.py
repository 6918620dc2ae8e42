"""`spe ablate` from pre-training to its table, stopped and started again."""

import json
import os
import re
import signal
import subprocess

import pytest
import yaml

from data_shards.annotated.unified import write_unified
from launcher.ablate import DEFAULT
from tests.forked import clean_environment
from tests.integration.command import run
from tests.integration.ray_head import wait_until
from tests.integration.test_finetune_seeds import FINETUNE
from tests.unit.spe_dist.extraction.tiny import SENTENCES
from tests.unit.spe_dist.tiny_run import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.slow]

VARIANTS = ["full", "no_head", "no_cnn", "momentum", "none"]
ABLATE = [*FINETUNE[:-1], "ablate"]


@pytest.fixture
def recipe(shards, tmp_path):
    write_unified(SENTENCES, tmp_path / "data.jsonl")
    values = yaml.safe_load(DEFAULT.read_text())
    values |= {"run": {"name": "tiny", "folder": str(tmp_path)}, "variants": VARIANTS}
    pretrain, finetune = values["pretrain"], values["finetune"]
    for section, settings in SMALL.items():
        pretrain[section] = pretrain[section] | settings
    pretrain["data"]["shards"] = str(shards / "shards")
    pretrain["cluster"]["workers"] = 1
    finetune["data"] = {part: str(tmp_path / "data.jsonl") for part in ("train", "dev", "test")}
    finetune["train"] |= {"epochs": 2}
    finetune["seeds"] = 1
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_every_variant_is_trained_once_and_stands_in_the_table(recipe, tmp_path):
    command, folder = [*ABLATE, "--config", str(recipe)], tmp_path / "tiny"
    told = run(*command, "--dry-run").stdout
    assert told.count("3 steps in") == 4 and "no pre-training (BERT): no pre-training" in told and not folder.exists()
    with (tmp_path / "out").open("w") as out:
        stopped = subprocess.Popen(command, env=clean_environment(), stdout=out, stderr=subprocess.STDOUT)
        wait_until(lambda: (folder / "finetune/full/seed-1/config.yaml").exists(), seconds=300, process=stopped)
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(timeout=120) in (os.EX_TEMPFAIL, 128 + signal.SIGTERM)
    assert not (folder / "finetune/no_head").exists()
    starts = (folder / "pretrain/full/starts.jsonl").read_bytes()
    done = run(*command, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "pretrain/full/starts.jsonl").read_bytes() == starts  # not trained again
    assert {path.name for path in (folder / "pretrain").iterdir()} == {"full", "no_head"}
    table = (folder / "ablations.md").read_text()
    assert table in done.stdout and "3 steps of 16 records" in table
    rows = json.loads((folder / "ablations.json").read_text())["rows"]
    assert [row["name"] for row in rows] == VARIANTS
    logs = {name: (folder / f"finetune/{name}/seed-1/finetune.log").read_text() for name in VARIANTS}
    assert "loaded: sentence encoder of" in logs["full"] and "span pair encoder of" in logs["full"]
    assert f"{folder}/pretrain/full/momentum" in logs["momentum"]
    assert re.search(r"left out: .*span encoder of .*, span pair encoder of", logs["no_cnn"])
    assert "loaded: nothing" in logs["none"]
    again = run(*command)
    assert table in again.stdout and "==" not in again.stdout  # nothing is left to do
