import subprocess
import sys

import pytest

from data_shards.errors import UserError
from launcher.finetune import DEFAULT, RECIPES, _told, read_arguments, with_absolute_paths
from spe_dist.extraction.formats import write_unified
from tests.unit.spe_dist.extraction.tiny import SENTENCES
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB, ROOT


def test_short_names_are_settings():
    short = [
        "--from",
        "runs/x",
        "--encoder=e",
        "--train=t",
        "--dev",
        "d",
        "--test",
        "u",
        "--fraction",
        "0.1",
        "--seed=3",
    ]
    config, dry_run = read_arguments([*short, "--name=n", "--optimizer.learning-rate", "1e-4"])
    assert (config.start.pretrained, config.encoder.name_or_path) == ("runs/x", "e")
    assert (config.data.train, config.data.dev, config.data.test, config.data.fraction) == ("t", "d", "u", 0.1)
    assert (config.run.seed, config.run.name, config.optimizer.learning_rate) == (3, "n", 1e-4)
    assert not dry_run


def test_the_recipe_is_the_papers():
    config, dry_run = read_arguments(["--dry-run"])
    optimizer, train = config.optimizer, config.train
    assert (optimizer.learning_rate, optimizer.warmup_share, optimizer.layer_decay) == (2.5e-5, 0.2, 0.9)
    assert (optimizer.weight_decay, optimizer.clip, optimizer.heads) == (0.01, 1.0, 1.0)
    assert (train.epochs, train.batch_size, train.first_evaluation, train.patience) == (200, 32, 5, 100)
    assert (config.sampling.gold_epochs, config.sampling.k) == (5, 3.0)
    assert (config.relation_size, config.heads_dropout, config.encoder.dropout) == (128, 0.1, 0.1)
    assert config.encoder.name_or_path == "bert-base-cased"
    assert dry_run


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(DEFAULT.read_text().replace("layer_decay", "layer_dekay"))
    with pytest.raises(UserError, match=r"unknown key 'optimizer\.layer_dekay', did you mean 'optimizer\.layer_decay'"):
        read_arguments(["--config", str(recipe)])


@pytest.mark.parametrize("recipe", sorted(path.name for path in RECIPES.glob("finetune_*.yaml")))
def test_every_recipe_has_a_dry_run(tmp_path, recipe):
    write_unified(SENTENCES, tmp_path / "data.jsonl")
    data = [f"--{part}={tmp_path / 'data.jsonl'}" for part in ("train", "dev", "test")]
    command = [sys.executable, "-c", "from launcher.cli import main; main()", "finetune"]
    done = subprocess.run(
        [*command, "--config", RECIPES / recipe, "--dry-run", *data, "--encoder", "null",
         f"--start.tokenizer={DEBUG_VOCAB}", "--run.folder", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "5 sentences to learn from" in done.stdout
    assert "new: sentence encoder" in done.stdout


def test_paths_are_made_absolute_and_names_are_not(tmp_path, monkeypatch):
    (tmp_path / "encoder").mkdir()
    monkeypatch.chdir(tmp_path)
    config, _ = read_arguments(
        ["--train=t", "--dev=/d", "--from=runs/x", "--encoder=encoder", "--start.tokenizer=none"]
    )
    config = with_absolute_paths(config)
    assert (config.data.train, config.data.dev, config.data.test) == (str(tmp_path / "t"), "/d", None)
    assert (config.start.pretrained, config.start.tokenizer) == ("runs/x", "none")  # nothing there: the error names it
    assert config.encoder.name_or_path == str(tmp_path / "encoder")
    assert config.run.folder == str(tmp_path / "runs")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "1"}}')
    with pytest.raises(UserError, match=r"run\.folder is 'runs', a relative path: a submitted job"):
        with_absolute_paths(read_arguments([])[0])


def test_seeds_are_the_first_and_those_after_it():
    config, _ = read_arguments(["--seed=7", "--seeds", "3", "--parallel=2"])
    assert [(one.run.seed, one.seeds) for one in config.of_each_seed()] == [(7, 1), (8, 1), (9, 1)]
    assert config.cluster.parallel == 2


def test_seeds_that_failed_for_one_reason_stand_together():
    assert _told({3: "no space", 1: "no space", 2: "killed"}) == "seeds 1, 3 failed: no space; seed 2 failed: killed"
