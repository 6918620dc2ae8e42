"""What a person is told when something is wrong: one line, a non-zero exit, nothing half-written."""

import os
import shutil
import subprocess

import pytest
import yaml
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tests.forked import run_as_only_rank, run_script
from tests.integration.command import PRETRAIN, only_error, run, small_run
from tests.unit.spe_dist.fact_sentences import fact_sentences
from tests.unit.spe_dist.random_documents import write_documents, write_records
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

SCRIPT = ROOT / "launcher/pretrain.py"


def test_unknown_key_in_a_recipe(shards, tmp_path):
    values = yaml.safe_load((ROOT / "launcher/recipes/debug.yaml").read_text())
    values["cspo"]["temprature"] = values["cspo"].pop("temperature")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    error = only_error(run_script(SCRIPT, "--config", tmp_path / "recipe.yaml", *small_run(shards)))
    assert "unknown key 'cspo.temprature', did you mean 'cspo.temperature'?" in error
    assert str(tmp_path / "recipe.yaml") in error


def test_unknown_key_on_the_command_line(shards):
    done = run_script(SCRIPT, *small_run(shards), "--cspo.temprature", "0.1")
    assert done.returncode != 0
    assert "cspo.temprature" in done.stderr and "cspo.temperature" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_shards(tmp_path):
    error = only_error(run_script(SCRIPT, *small_run(tmp_path)))
    assert str(tmp_path / "shards") in error and "spe shards build" in error
    assert not (tmp_path / "runs").exists()


def test_encoder_whose_vocabulary_does_not_match(shards, tmp_path):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(shards / "shards/tokenizer/tokenizer.json"))
    tokenizer.add_tokens(["spanpair"])
    tokenizer.save_pretrained(tmp_path / "encoder")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "encoder")
    error = only_error(run_script(SCRIPT, *small_run(shards), f"--encoder.name_or_path={tmp_path / 'encoder'}"))
    assert "different vocabularies" in error and "--tokenizer" in error


def test_encoder_that_is_not_there(shards, tmp_path):
    error = only_error(
        run(*PRETRAIN, *small_run(shards), f"--encoder.name_or_path={tmp_path / 'none'}", HF_HUB_OFFLINE="1")
    )
    assert "encoder.name_or_path" in error and str(tmp_path / "none") in error


def test_more_workers_than_lanes(shards):
    error = only_error(run_script(SCRIPT, *small_run(shards), "--cluster.workers=3"))
    assert "3 workers" in error and "2 lanes" in error


def test_no_compiler(shards, tmp_path):
    (tmp_path / "bin").mkdir()
    for program in ("env", "uname"):
        os.symlink(shutil.which(program), tmp_path / "bin" / program)
    error = only_error(run_script(SCRIPT, *small_run(shards), PATH=str(tmp_path / "bin")))
    assert "C++ compiler" in error and "install" in error


def test_loss_that_is_not_finite(shards, tmp_path):
    arguments = small_run(shards, f"--run.folder={tmp_path}", "--optimizer.learning_rate=1e30", "--train.steps=6")
    done = run_as_only_rank(SCRIPT, *arguments)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "not finite" in errors[0] and "learning" in errors[0], done.stderr[-3000:]
    assert not list((tmp_path / "debug" / "checkpoints").glob("step-*"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk_at_a_checkpoint(shards, small_disk):
    done = run_as_only_rank(SCRIPT, *small_run(shards, f"--run.folder={small_disk}"))
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "space" in errors[0] and str(small_disk) in errors[0], done.stderr[-3000:]
    assert not list((small_disk / "debug" / "checkpoints").iterdir())


def test_run_folder_of_another_configuration(shards, tmp_path):
    command = [SCRIPT, *small_run(shards, f"--run.folder={tmp_path}")]
    assert run_as_only_rank(*command).returncode == 0
    done = run_as_only_rank(*command, "--cspo.temperature=0.5")
    assert "cspo.temperature was 0.2 and is 0.5" in done.stderr and "run.name" in done.stderr
    assert done.returncode != 0


def test_a_dry_run_says_how_long_the_run_takes_and_what_is_missing_on_this_machine(shards, tmp_path):
    small = [SCRIPT, *small_run(shards, f"--run.folder={tmp_path / 'runs'}"), "--dry-run"]
    done = run_script(*small, "--speed", "0.5")
    assert "time         0.03 hours at 0.5 records/s (as given)" in done.stdout and done.returncode == 0
    assert not (tmp_path / "runs").exists()
    done = run_script(*small, "--cluster.gpus_per_worker=1", CUDA_VISIBLE_DEVICES="")
    assert "parameters" in done.stdout and "in order" not in done.stdout
    assert "2 workers with a GPU each, but torch can use no GPUs" in only_error(done)
    assert "--speed fast: give a number of records per second" in only_error(run_script(*small, "--speed=fast"))
    assert "--speed needs --dry-run" in only_error(run_script(SCRIPT, *small_run(shards), "--speed=9"))


def test_every_recipe_has_a_dry_run(shards, tmp_path):
    encoder = tmp_path / "encoder"
    shutil.copytree(shards / "shards/tokenizer", encoder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=1500, **sizes)).save_pretrained(encoder)
    recipes = [
        path
        for path in sorted((ROOT / "launcher/recipes").glob("*.yaml"))
        if not path.stem.startswith(("finetune", "ablations", "few_labels", "pretraining_comparison"))
    ]
    assert {recipe.stem for recipe in recipes} >= {"debug", "spe_wiki", "minilm_cpu"}
    write_dataset(tmp_path / "entities", entities=True)
    write_documents(tmp_path / "documents", 600)
    write_records(tmp_path / "pairs", fact_sentences(600, 1), shards=1, sentences_paired={"build": {}})
    names = {"enpar": "entities", "erica": "documents", "cp": "documents", "mtb": "pairs"}
    data_of = {method: tmp_path / name for method, name in names.items()}
    for recipe in recipes:
        data = data_of.get(recipe.stem.partition("_")[0], shards / "shards")
        small = [
            f"--data.shards={data}",
            f"--run.folder={tmp_path}",
            "--batch.lane_size=4",
            f"--encoder.name_or_path={encoder}",
        ]
        small.append("--cluster.address=auto")  # where the GPUs are that some ask for
        done = run_script(SCRIPT, "--config", recipe, "--dry-run", *small)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "dry run: everything" in done.stdout and "memory" in done.stdout


def test_the_address_of_rays_dashboard(shards):
    error = only_error(run_script(SCRIPT, *small_run(shards), RAY_ADDRESS="http://head:8265"))
    assert "http://head:8265 is that of Ray's dashboard" in error and "HOST:PORT" in error


@pytest.mark.ray
def test_a_home_that_cannot_be_written(shards):
    error = only_error(run_script(SCRIPT, *small_run(shards), HOME="/proc"))
    assert "/proc/.ray" in error and "set HOME" in error


def test_a_home_that_cannot_be_written_under_torchrun(shards, tmp_path):
    done = run_as_only_rank(SCRIPT, *small_run(shards, f"--run.folder={tmp_path}"), TORCH_EXTENSIONS_DIR="/proc/cache")
    assert "/proc/cache" in only_error(done) and "set HOME" in only_error(done)
