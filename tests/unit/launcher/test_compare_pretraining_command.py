"""`spe compare-pretraining` and `spe ablate` before anything is started."""

from dataclasses import replace
from pathlib import Path

import pytest

from data_shards.errors import UserError
from launcher.ablate import main as ablate
from launcher.compare_pretraining import ComparePretraining, _check_same_pretraining, main, read_settings
from launcher.recipe_arguments import find_recipe
from spe_dist.comparison.comparison import Comparison
from spe_dist.recipe import config_yaml


@pytest.fixture
def given(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text("")
    files = [f"--finetune=data.{name}=a.jsonl" for name in ("train", "dev", "test")]
    return ["--pretrain", f"data.shards={shards / 'shards'}", *files]


def test_a_dry_run_says_what_would_be_run_and_starts_nothing(given, capsys, tmp_path):
    ablate([*given, "--seeds", "2", "--dry-run"])
    told = capsys.readouterr().out
    assert told.count("pre-training in ") == 7 and "no pre-training (BERT): no pre-training" in told
    assert "extraction, 20 %: 8 variants, 1 trial of 2 seeds each" in told and "16 fine-tunings in" in told
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_missing_file_of_data_is_named_before_hours_of_pre_training(given):
    Path("a.jsonl").unlink()
    with pytest.raises(UserError, match=r"tasks\.extraction: data\.train: a\.jsonl: no such file"):
        ablate(given)


def test_settings_of_the_command_line(given, tmp_path):
    command = ComparePretraining(
        config="ablations_spe_cpu", name="n", folder=str(tmp_path), variants=("full", "none"), seeds=4,
        pretrain=("train.steps=7",), finetune=("optimizer.learning-rate=0.5",),
    )  # fmt: skip
    config = read_settings(command)
    assert (config.folder, list(config.variants), config.seeds) == (tmp_path / "n", ["full", "none"], 4)
    assert config.pretrain == {"train.steps": 7}
    assert config.tasks["extraction"].settings["optimizer.learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "nosuch"], r"--variants nosuch: .* has none of this name, but full, no_tbo"),
        (["--tasks", "nosuch"], r"--tasks nosuch"),
        (["--variants", "none"], r"baselines: full: name some of the variants none"),
        (["--pretrain", "train.steps"], r"--pretrain train\.steps: write SETTING=VALUE"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        main(["--config", "ablations_spe_cpu", *arguments])


def test_a_pre_training_of_other_settings_is_refused(given, tmp_path):
    config = read_settings(ComparePretraining(config="ablations_spe_cpu", pretrain=(given[1],), folder=str(tmp_path)))
    run = Comparison(config, find_recipe).pretrainings["full"]
    Path(run.run_folder).mkdir(parents=True)
    (Path(run.run_folder) / "config.yaml").write_text(config_yaml(run))
    _check_same_pretraining(replace(run, cluster=replace(run.cluster, workers=1)))
    with pytest.raises(UserError, match=r"train\.steps was 400 and is 200.*its own name"):
        _check_same_pretraining(replace(run, train=replace(run.train, steps=200)))
