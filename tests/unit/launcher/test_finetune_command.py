import json
import sys

import pytest

from data_shards.annotated.unified import write_unified
from data_shards.errors import UserError
from launcher.finetune import DEFAULT, RECIPES, _print_scores, _told, main, read_arguments, with_absolute_folders
from launcher.progress import shown_seeds
from spe_dist.finetuning.card import _start
from spe_dist.finetuning.folder import Origin, Result, settings_in_use
from spe_dist.recipe import read_values
from tests.forked import run_script
from tests.unit.spe_dist.extraction.tiny import SENTENCES
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB, ROOT


def test_short_names_are_settings():
    short = [
        "--from",
        "bert",
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
    assert (config.start.pretrained, config.encoder.name_or_path) == ("bert", "e")
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
    assert (config.model.relation_sizes, config.model.dropout, config.encoder.dropout) == ((300, 128), 0.1, 0.1)
    assert config.encoder.name_or_path == "bert-base-cased"
    assert config.run.seed == 1  # the docs say seed-1
    assert dry_run


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(DEFAULT.read_text().replace("layer_decay", "layer_dekay"))
    with pytest.raises(UserError, match=r"unknown key 'optimizer\.layer_dekay', did you mean 'optimizer\.layer_decay'"):
        read_arguments(["--config", str(recipe)])


@pytest.mark.parametrize("recipe", ["finetune_cpu.yaml", "finetune_spe.yaml"])
def test_every_recipe_has_a_dry_run(tmp_path, recipe):
    write_unified(SENTENCES, tmp_path / "data.jsonl")
    data = [f"--{part}={tmp_path / 'data.jsonl'}" for part in ("train", "dev", "test")]
    settings = ["--encoder", "null", "--seeds=2", f"--start.tokenizer={DEBUG_VOCAB}", "--run.folder", str(tmp_path)]
    done = run_script(ROOT / "launcher/cli.py", "finetune", "--config", RECIPES / recipe, "--dry-run", *data, *settings)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "5 sentences to learn from" in done.stdout
    assert "warning: 5 of 5 test sentences are learned from too" in done.stdout
    assert "seed-1, " in done.stdout and f"{recipe.removesuffix('.yaml')}/seed-2" in done.stdout
    assert "new: sentence encoder" in done.stdout


def test_recipes_have_no_dropout_that_cuda_refuses():
    values = {
        path.stem: read_values(path)["encoder"] for path in RECIPES.glob("*.yaml") if "encoder" in read_values(path)
    }
    assert len(values) > 20
    assert [name for name, encoder in values.items() if encoder.get("attention_dropout")] == []


def test_paths_are_made_absolute_and_names_are_not(tmp_path, monkeypatch):
    (tmp_path / "encoder").mkdir()
    monkeypatch.chdir(tmp_path)
    config, _ = read_arguments(["--train=t", "--dev=/d", "--from=bert", "--encoder=encoder", "--start.tokenizer=none"])
    config = with_absolute_folders(config)
    assert (config.data.train, config.data.dev, config.data.test) == (str(tmp_path / "t"), "/d", None)
    assert (config.start.pretrained, config.start.tokenizer) == ("bert", "none")  # nothing there: the error names it
    assert config.encoder.name_or_path == str(tmp_path / "encoder")
    assert config.run.folder == str(tmp_path / "runs")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "1"}}')
    with pytest.raises(UserError, match=r"run\.folder is 'runs', a relative path: a submitted job"):
        with_absolute_folders(read_arguments([])[0])


def test_a_bare_name_is_that_of_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_arguments(["--config", "finetune_cpu"])[0].train.epochs == 40
    with pytest.raises(
        UserError, match=r"--config cpu: no such file or recipe; recipes are: .*debug, .*finetune_cpu, "
    ):
        read_arguments(["--config=cpu"])
    (tmp_path / "cpu").write_text((RECIPES / "finetune_cpu.yaml").read_text())
    assert read_arguments(["--config=cpu"])[0].train.epochs == 40


def test_a_start_that_cannot_be_is_told_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spe_dist.finetuning.loop", None)  # importing it would be an ImportError
    for arguments, complaint in (
        (["--config", "finetune_cpu"], r"name one \(--encoder NAME\), start from a run \(--from RUN\)"),
        (["--from", str(tmp_path)], f"start.pretrained: {tmp_path} is neither a run"),
        (["--from", "runs/x", "--encoder", "e"], "--encoder e would not be used"),
        (["--from", "runs/x", "--encoder.name_or_path=e"], "--encoder e would not be used"),
        (["--epochs", "3"], "unknown option --epochs, did you mean --train.epochs"),
    ):
        with pytest.raises(UserError, match=complaint):
            main(arguments)


def test_the_card_of_a_model_names_the_run_not_a_part_of_its_path():
    for folder, name in (("/tmp/run862", "run862"), ("/home/ada/runs/wiki/export", "wiki/export")):
        origin = Origin(kind="run", loaded=("sentence encoder",), new=())
        assert f"from the run `{name}`." in _start(read_arguments(["--from", folder])[0], origin)


def test_what_is_kept_of_the_settings_names_no_encoder_that_was_not_used():
    sizes = {"layers", "hidden_size", "heads", "intermediate_size", "max_positions"}
    for arguments, name, told in (
        (["--from", "runs/x"], None, set()),
        (["--encoder", "e"], "e", set()),
        (["--encoder", "null"], None, sizes),
    ):
        encoder = settings_in_use(read_arguments(arguments)[0])["encoder"]
        assert encoder["name_or_path"] == name and encoder.keys() & sizes == told


def test_what_seeds_have_in_common_is_shown_once(tmp_path, capsys):
    folders = {1: tmp_path / "seed-1", 2: tmp_path / "seed-2"}
    for folder in folders.values():
        folder.mkdir()
    (folders[1] / "finetune.log").write_text("2026-01-01 00:00:00,000 INFO spe_dist.x: of an earlier start\n")
    with shown_seeds(folders):
        for seed, folder in folders.items():
            with (folder / "finetune.log").open("a") as log:
                log.write("2026-01-01 00:00:00,000 INFO spe_dist.finetuning.loop: 5 sentences to learn from\n")
                log.write("2026-01-01 00:00:00,000 WARNING spe_dist.finetuning.loop: warning: odd\n")
                log.write("2026-01-01 00:00:00,000 INFO spe_dist.train.run_log: epoch 1\n")
                log.write("2026-01-01 00:00:00,000 INFO spe_dist.x: later\n")
            (folder / "metrics.jsonl").write_text(json.dumps({"step": 3, "epoch": seed}) + "\n")
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["5 sentences to learn from", "warning: odd"]
    assert [line.split(":")[0] for line in printed[2:]] == ["seed 1", "seed 2"]


def test_a_single_seed_is_not_called_the_best(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("spe_dist.finetuning.score_report.report_run", lambda scoring, run: ("", "test: 1.0"))
    results = [Result(seed, 1, 1, {"entity_f1": seed / 10, "relation_strict_f1": 0.0}, None) for seed in (1, 2)]
    config = read_arguments([f"--run.folder={tmp_path.parent}", f"--name={tmp_path.name}"])[0]
    _print_scores(config, results)
    printed = capsys.readouterr().out
    assert f"best seed on dev: 2; model: {tmp_path}/seed-2/model\n" in printed
    assert printed.endswith("\ntest: 1.0\n")  # the headline comes last
    _print_scores(config, results[:1])
    assert f"\nmodel: {tmp_path}/seed-1/model\n" in capsys.readouterr().out


def test_seeds_are_the_first_and_those_after_it():
    config, _ = read_arguments(["--seed=7", "--seeds", "3", "--parallel=2"])
    assert [(one.run.seed, one.seeds) for one in config.of_each_seed()] == [(7, 1), (8, 1), (9, 1)]
    assert config.cluster.parallel == 2


def test_seeds_that_failed_for_one_reason_stand_together():
    assert _told({3: "no space", 1: "no space", 2: "killed"}) == "seeds 1, 3 failed: no space; seed 2 failed: killed"
