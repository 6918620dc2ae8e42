"""`spe compare-pretraining` and `spe ablate` before anything is started."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from data_shards.errors import UserError
from launcher import compare_pretraining
from launcher.ablate import main as ablate
from launcher.compare_pretraining import ComparePretraining, _check_same_pretraining, main, read_settings
from launcher.recipe_arguments import find_recipe
from spe_dist.comparison.comparison import Comparison
from spe_dist.recipe import config_yaml, load_recipe


@pytest.fixture
def given(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text("")
    files = [f"--finetune=data.{name}=a.jsonl" for name in ("train", "dev", "test")]
    return ["--pretrain", f"data.shards={shards / 'shards'}", *files]


def test_a_dry_run_says_what_would_be_run_and_starts_nothing(given, capsys, tmp_path):
    ablate([*given, "--seeds", "2", "--dry-run"])
    told = capsys.readouterr().out
    assert told.count("pre-training of 400 steps in ") == 7 and "no pre-training (BERT): no pre-training" in told
    assert "extraction, 20 %: 8 variants, 1 trial of 2 seeds each" in told and "16 fine-tunings in" in told
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    ablate([*given, "--report", "--json", "--folder", str(tmp_path / "runs")])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["cells"] == [] and "| pre-training " in printed.err


def test_a_missing_file_of_data_is_named_before_hours_of_pre_training(given):
    Path("a.jsonl").unlink()
    with pytest.raises(UserError, match=r"tasks\.extraction: data\.train: a\.jsonl: no such file"):
        ablate(given)


def test_shards_that_do_not_fit_are_named_before_hours_of_pre_training(given, shards, tmp_path):
    def recipe(variants):
        values = yaml.safe_load(find_recipe("ablations_spe_cpu").read_text()) | {"baselines": ["none"], "papers": []}
        values["variants"] = {"none": values["variants"]["none"]} | variants
        Path("recipe.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        return ["--config", "recipe.yaml", *given]

    encoder = {f"encoder.{key}": value for key, value in load_recipe(find_recipe("debug")).encoder.__dict__.items()}
    mtb = {"title": "MTB", "recipe": "mtb_minilm_cpu", "settings": encoder}
    with pytest.raises(UserError, match="has no pairs of sentences: make them with"):
        main(recipe({"mtb": mtb}))
    other = {"title": "b", "recipe": "debug", "settings": {"data.shards": str(tmp_path / "other")}}
    with pytest.raises(UserError, match=r"other.*no"):
        main(recipe({"spe": {"title": "SPE", "recipe": "debug"}, "other": other}))
    manifest = json.loads((shards / "shards/manifest.json").read_text())
    manifest["tokenizer"]["fingerprint"] = "of another one"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"shards and .*other were built with different tokenizers"):
        main(recipe({"spe": {"title": "SPE", "recipe": "debug"}, "other": other}))
    distant = {"title": "SPE-DS", "recipe": "finetune_cpu", "settings": {"data.train": "distant.jsonl"}}
    with pytest.raises(UserError, match=r"variants\.spe_ds: data\.train: distant\.jsonl: no such file"):
        main(recipe({"spe": {"title": "SPE", "recipe": "debug"}, "spe_ds": distant}))


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
        (["--pretrain", "train.steps=[1"], r"--pretrain train\.steps=\[1: \[1 is not a value"),
        (["--seeds", "0"], "--seeds is 0: it must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        main(["--config", "ablations_spe_cpu", *arguments])


def test_a_pre_training_is_done_at_its_step_and_one_of_other_settings_is_refused(given, tmp_path, monkeypatch):
    config = read_settings(ComparePretraining(config="ablations_spe_cpu", pretrain=(given[1],), folder=str(tmp_path)))
    run = Comparison(config, find_recipe).pretrainings["full"]
    Path(run.run_folder).mkdir(parents=True)
    (Path(run.run_folder) / "config.yaml").write_text(config_yaml(run))
    _check_same_pretraining(replace(run, cluster=replace(run.cluster, workers=1)))
    for kept, done in (([], []), ([200], [200]), ([200, 400], [None, 100, 200])):
        monkeypatch.setattr(compare_pretraining, "kept_steps", lambda _, kept=kept: kept)
        assert [step for step in (None, 100, 200) if compare_pretraining._is_done(run, step)] == done
    with pytest.raises(UserError, match=r"train\.steps was 400 and is 200.*its own name"):
        _check_same_pretraining(replace(run, train=replace(run.train, steps=200)))
