"""A run goes on with the same data and model only; settings that an older version lacks are at their defaults."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from data_shards.errors import UserError
from spe_dist.config import Config
from spe_dist.engine.world import World
from spe_dist.recipe import load_recipe
from spe_dist.train.run_folder import prepare_run_folder
from tests.unit.spe_dist.tiny_run import ROOT


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = load_recipe(ROOT / "launcher" / "recipes" / "debug.yaml")
    return replace(config, run=replace(config.run, folder=str(tmp_path / "runs")))


def prepare(config: Config, tmp_path: Path, *, fingerprint: str = "abc") -> Path:
    (tmp_path / "tokenizer").mkdir(exist_ok=True)
    return prepare_run_folder(
        config, tokenizer=tmp_path / "tokenizer", fingerprint=fingerprint, world=World.from_environment()
    )


def test_another_seed_fraction_or_dataset_is_refused(config: Config, tmp_path: Path) -> None:
    prepare(config, tmp_path)
    prepare(config, tmp_path)
    with pytest.raises(UserError, match=r"data\.fraction was 1\.0 and is 0\.5.*own run\.name"):
        prepare(replace(config, data=replace(config.data, fraction=0.5)), tmp_path)
    with pytest.raises(UserError, match=r"run\.seed was 5216 and is 1"):
        prepare(replace(config, run=replace(config.run, seed=1)), tmp_path)
    with pytest.raises(UserError, match="another dataset"):
        prepare(config, tmp_path, fingerprint="other")


def test_a_run_from_before_a_setting_goes_on_with_its_default(config: Config, tmp_path: Path) -> None:
    folder = prepare(config, tmp_path)
    written = yaml.safe_load((folder / "config.yaml").read_text())
    del written["data"]["fraction"]
    (folder / "config.yaml").write_text(yaml.safe_dump(written))
    prepare(config, tmp_path)
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["fraction"] == 1
