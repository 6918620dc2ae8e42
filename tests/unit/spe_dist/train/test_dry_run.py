"""What is refused before any rank starts, and what a dry run says."""

import json
import shutil

import pytest
import yaml
from transformers import BertConfig, BertModel

from data_shards.errors import UserError
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from spe_dist.train.dry_run import check_run, describe_run
from spe_dist.train.session import open_session
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset


def config_in(folder, recipe="debug", *, entities=False, **changes):
    """A recipe on tiny shards, its runs in `folder`/runs."""
    if not (folder / "shards").exists():
        write_dataset(folder / "shards", entities=entities)
    values = yaml.safe_load(config_yaml(load_recipe(ROOT / f"launcher/recipes/{recipe}.yaml")))
    places = {"data": {"shards": str(folder / "shards")}, "run": {"folder": str(folder / "runs")}}
    for section, settings in (*places.items(), *changes.items()):
        values[section] |= settings
    return config_from_values(values, source="test")


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("compute", {"compile": True}, "compute.compile does not work with train.zero_stage 3"),
        ("compute", {"graph_pieces": 256}, "set compute.compile and train.zero_stage 1"),
        ("kernels", {"span_pool": "cuda"}, "kernels.span_pool is cuda, but this run computes on cpu"),
        ("optimizer", {"warmup_steps": 1000}, "optimizer.warmup_steps is 1000, more than train.steps 400"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path, section, changes, message):
    changed = {"train": {"zero_stage": 3}, section: changes}
    with pytest.raises(UserError, match=message):
        check_run(config_in(tmp_path, **changed), world_size=1)


def test_cuda_graphs_without_a_gpu_are_refused_before_and_at_the_start(tmp_path):
    config = config_in(tmp_path, compute={"compile": True, "graph_pieces": 256})
    message = "compute.graph_pieces is for GPUs, and this run computes on cpu: leave it out"
    with pytest.raises(UserError, match=message):
        check_run(config, world_size=1)
    with pytest.raises(UserError, match=message), open_session(config):
        pass


def test_cuda_graphs_of_padded_layers_are_refused_before_any_rank_starts(tmp_path):
    settings = {"compile": True, "graph_pieces": 256}
    config = config_in(tmp_path, compute=settings | {"packed": False}, cluster={"gpus_per_worker": 1})
    with pytest.raises(UserError, match="graph_pieces is for encoders whose layers run packed"):
        check_run(config, world_size=1)
    check_run(config_in(tmp_path, compute=settings, cluster={"gpus_per_worker": 1}), world_size=1)


@pytest.mark.parametrize("place", [{"name": ""}, {"name": "."}, {"folder": ""}])
def test_a_run_has_a_folder_of_its_own(tmp_path, place):
    with pytest.raises(UserError, match=rf"run\.{next(iter(place))}: "):
        config_in(tmp_path, run=place)


def test_enpar_without_entities(tmp_path):
    with pytest.raises(UserError, match="has no entities: add them with: spe shards annotate"):
        check_run(config_in(tmp_path, "enpar_debug"), world_size=1)


def test_a_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match=rf"cannot write to .*runs/debug: {tmp_path}/runs is a file, not a folder"):
        check_run(config_in(tmp_path), world_size=1)
    with pytest.raises(UserError, match="cannot write to /proc/runs/debug: /proc: "):
        check_run(config_in(tmp_path, run={"folder": "/proc/runs"}), world_size=1)


def test_a_dry_run_leaves_nothing_behind(tmp_path):
    config = config_in(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    describe_run(config)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_finds_a_run_of_another_configuration_in_the_folder(tmp_path):
    config = config_in(tmp_path)
    folder = tmp_path / "runs" / "debug"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_yaml(config_in(tmp_path, run={"seed": 7})))
    with pytest.raises(UserError, match=r"holds a run of another configuration \(run\.seed was 7"):
        describe_run(config)


def test_a_dry_run_prints_the_sizes_of_the_encoder_that_is_named(tmp_path):
    config = config_in(tmp_path)
    shutil.copytree(tmp_path / "shards/tokenizer", tmp_path / "encoder")
    sizes = {"hidden_size": 36, "num_hidden_layers": 5, "num_attention_heads": 3, "intermediate_size": 44}
    BertModel(BertConfig(vocab_size=1500, max_position_embeddings=99, **sizes)).save_pretrained(tmp_path / "encoder")
    config = config_in(tmp_path, encoder={"name_or_path": str(tmp_path / "encoder")})
    told = describe_run(config)
    assert "/encoder: 5 layers of 36, 3 heads, 44 inside, 99 positions, vocabulary of 1,500" in told
    printed = yaml.safe_load(told.partition("\n\n")[0])["encoder"]
    expected = {"layers": 5, "hidden_size": 36, "heads": 3, "intermediate_size": 44, "max_positions": 99}
    assert {key: printed[key] for key in expected} == expected


def test_a_dry_run_says_how_long_it_takes_if_that_can_be_known(tmp_path):
    config = config_in(tmp_path, train={"steps": 900})  # of 64 records
    assert "time         not known: give a speed as --speed" in describe_run(config)
    assert "time         1.00 hours at 16 records/s (as given)" in describe_run(config, records_per_second=16)
    folder = tmp_path / "runs" / "debug"
    folder.mkdir(parents=True)
    lines = [{"step": step, "records_per_second": speed} for step, speed in ((300, 1), (400, 8), (450, 9))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = describe_run(config)
    assert f"1.00 hours for the 450 steps after step 450 at 8 records/s (as measured in {folder}/metrics.jsonl)" in told
