"""A run goes on with the same data and model only; settings that an older version lacks are at their defaults."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from data_shards.errors import UserError
from data_shards.files import require_writable
from spe_dist.config import Config
from spe_dist.engine.world import World
from spe_dist.recipe import load_recipe
from spe_dist.train.run_folder import prepare_run_folder
from spe_dist.train.run_lock import RunLock
from tests.faults.small_disk import mounted, read_only
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


def test_a_tokenizer_that_is_kept_read_only_is_no_obstacle_to_the_next_start(config: Config, tmp_path: Path) -> None:
    """Root may write anything, so modes are looked at."""
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    for path, mode in ((tmp_path / "tokenizer" / "tokenizer.json", 0o444), (tmp_path / "tokenizer", 0o555)):
        path.chmod(mode)
    copy = prepare(config, tmp_path) / "tokenizer"
    assert [path.stat().st_mode & 0o200 for path in (copy, copy / "tokenizer.json")] == [0o200, 0o200]
    before = (copy / "tokenizer.json").stat().st_ino
    prepare(config, tmp_path)
    assert (copy / "tokenizer.json").stat().st_ino == before


def test_what_has_changed_since_the_last_start_is_said(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(config, tmp_path)
    changed = replace(
        config,
        train=replace(config.train, steps=7, log_every=3),
        optimizer=replace(config.optimizer, learning_rate=0.5),
    )
    with caplog.at_level("INFO"):
        prepare(changed, tmp_path)
    said = [(record.levelname, record.getMessage().partition(" was ")[0]) for record in caplog.records]
    assert said == [
        ("WARNING", "optimizer.learning_rate"),
        ("INFO", "train.log_every"),
        ("WARNING", "train.steps"),
    ]


@pytest.mark.parametrize("below", ["", "deeper/name"])
def test_a_file_in_place_of_a_run_folder_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "run").write_text("")
    folder = tmp_path / "run" / below
    for make in (require_writable, lambda folder: RunLock(folder, World())):
        with pytest.raises(UserError, match=f"^cannot write to {folder}: {tmp_path / 'run'} is a file, not a folder$"):
            make(folder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 100) as disk, read_only(disk):
        for make in (require_writable, lambda folder: RunLock(folder, World())):
            with pytest.raises(UserError, match=f"^cannot write to {disk}.*: read-only file system$"):
                make(disk / "run")
    with pytest.raises(UserError, match=r"^cannot write to /proc/nothing: /proc: "):
        require_writable(Path("/proc/nothing"))
