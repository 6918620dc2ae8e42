"""What `spe tune` reads and refuses, and its budget."""

import json

import pytest
import yaml

from data_shards.annotated.unified import write_unified
from data_shards.errors import UserError
from launcher import tune as module
from launcher.tune import _Budget, main, read_arguments
from spe_dist.recipe import config_yaml
from tests.unit.spe_dist.extraction.tiny import SENTENCES
from tests.unit.spe_dist.extraction.tiny_finetuning import config_in


@pytest.fixture
def tune(tmp_path):
    """The arguments of a tuning of a tiny encoder; its recipe names test data."""
    (tmp_path / "recipe.yaml").write_text(config_yaml(config_in(tmp_path)))
    return ["--config", str(tmp_path / "recipe.yaml"), "--from", "bert", "--name", "t"]


def test_settings_are_those_of_the_recipe_the_command_and_the_grid(tune, tmp_path):
    write_unified(SENTENCES[:2], tmp_path / "dev.jsonl")
    more = ["--dev", str(tmp_path / "dev.jsonl"), "--train.batch-size", "4", "--model.relation-sizes", "8", "6"]
    grid = ["--grid", "train.epochs=2,3", "--grid=optimizer.learning-rate=1e-3,2e-3", "--trials", "3", "--seed=4"]
    command, tuning = read_arguments([*tune, *more, *grid])
    config = tuning.starts["bert"]
    assert config.data.test is None
    assert (config.data.dev, config.train.batch_size) == (str(tmp_path / "dev.jsonl"), 4)
    assert (config.model.relation_sizes, config.run.seed, config.seeds) == ((8, 6), 4, 3)
    assert tuning.folder == tmp_path / "t"
    assert (len(tuning.points), tuning.grid["train.epochs"], command.hours) == (3, (2, 3), None)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--test", "test.json"], "reads no test data"),
        (["--data.test=test.json"], "reads no test data"),
        (["--train.epochs", "3"], r"--train\.epochs is given and also in the grid"),
        (["--start.pretrained", "x"], r"--start\.pretrained is --from here"),
        (["--from", "runs/none"], "runs/none is neither a run"),
        (["--dev", "none.json"], r"--dev: .*none\.json: no such file"),
        (["--grid", "optimizer.learning-rat=1"], r"unknown key 'optimizer\.learning_rat'"),
        (["--train.batch-sise", "4"], r"batch-sise"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--hours", "-1"], "--hours is -1"),
        (["--trails", "3"], "--trails"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(tune, tmp_path, arguments, what):
    with pytest.raises(UserError, match=what) as raised:
        main([*tune, "--grid", "train.epochs=2,3", *arguments])
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "t").exists()


def test_json_is_alone_on_standard_output(tune, tmp_path, capsys):
    main([*tune, "--grid", "train.epochs=2,3", "--hours", "1e-9", "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "t/tuning.json").read_text())
    assert (tmp_path / "t/tuning.md").read_text() in printed.err


def test_an_encoder_that_no_start_would_use_is_refused(tune):
    with pytest.raises(UserError, match="--encoder e would not be used"):
        read_arguments([*tune[:2], "--from", "runs/spe", "--encoder", "e", "--grid", "train.epochs=2"])


def test_a_dry_run_says_what_would_be_tried(tune, tmp_path, capsys):
    main([*tune, "--grid", "train.epochs=2,3", "--seeds", "2", "--dry-run"])
    told = capsys.readouterr().out
    assert "train.epochs 2\n" in told and "train.epochs 3\n" in told and "4 fine-tunings" in told
    assert not (tmp_path / "t").exists()


def test_when_the_hours_are_over_no_trial_begins_but_those_that_have_begun_go_on_with_every_start(
    tmp_path, monkeypatch
):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    budget = _Budget(tmp_path, 1.0, begun=set(), used=0.0, since=now[0])
    assert budget.allows(1)
    now[0] += 3000
    assert budget.allows(2)
    now[0] += 700
    assert not budget.allows(3)
    assert budget.allows(2)
    assert not budget.allows(3)  # asking begins nothing
    budget.keep()
    used = module._elapsed(tmp_path)  # the command goes on, and may have more
    again = _Budget(tmp_path, 2.0, begun={1, 2}, used=used, since=now[0])
    assert again.seconds == 3700
    assert again.allows(3)
    assert yaml.safe_load((tmp_path / "elapsed.json").read_text()) == {"seconds": 3700.0}
