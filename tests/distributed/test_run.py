"""Whole runs on several ranks: the same whatever the ranks, the ZeRO stage and the restart."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from spe_dist.checkpoint.loaded import LoadedCheckpoint, list_checkpoints
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from spe_dist.train.loop import train
from spe_dist.train.run_log import read_metrics
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.tiny_run import ROOT, SMALL, write_dataset

pytestmark = pytest.mark.distributed

# 5 lanes: 3 ranks have 1, 2 and 2 of them, so forwards differ and one is empty; the queue is no multiple of the batch.
SETTINGS = {
    "batch": {"lanes": 5, "lane_size": 4, "lanes_per_forward": 1},
    "cspo": {"queue_size": 48},
    "optimizer": {"learning_rate": 1e-3},
    "train": {"steps": 4, "log_every": 1, "checkpoint_every": 2, "keep_last": 2},
}
SPEEDS = {"records_per_second", "seconds_per_step", "pieces_per_second", "waiting_share", "memory_gib"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shards"
    write_dataset(folder)
    return folder


def configure(shards, runs, **overrides):
    values = yaml.safe_load(config_yaml(load_recipe(ROOT / "launcher/recipes/debug.yaml")))
    places = {"run": {"folder": str(runs)}, "data": {"shards": str(shards)}}
    for settings in (SMALL, SETTINGS, places, overrides):
        for section, keys in settings.items():
            values[section] = values[section] | keys if isinstance(keys, dict) else keys
    return config_from_values(values, source="test")


def run(config, world_size):
    run_ranks(train, world_size, config)
    folder = Path(config.run_folder)
    metrics = [{k: v for k, v in line.items() if k not in SPEEDS} for line in read_metrics(folder)]
    return metrics, LoadedCheckpoint(list_checkpoints(folder / "checkpoints")[-1], ())


def forget_last_checkpoint(folder: Path):
    shutil.rmtree(folder / "checkpoints" / "step-000000004")


def whole_tensors(checkpoint):
    return {name: checkpoint.get(name) for name in checkpoint.names() if not name.startswith("rng.")}


def test_the_same_run_on_one_rank_and_on_three_then_two_of_another_stage(shards, tmp_path):
    alone, expected = run(configure(shards, tmp_path / "alone"), 1)
    moved = configure(shards, tmp_path / "moved", train={"zero_stage": 2})
    run(moved, 3)
    forget_last_checkpoint(tmp_path / "moved" / "debug")
    metrics, state = run(configure(shards, tmp_path / "moved", train={"zero_stage": 3}), 2)
    assert [line.pop("digest") for line in metrics] == [line.pop("digest") for line in alone]
    for mine, other in zip(metrics, alone, strict=True):
        assert mine == pytest.approx(other, rel=1e-5, abs=1e-6, nan_ok=True)
    assert set(whole_tensors(state)) == set(whole_tensors(expected))
    for name, tensor in whole_tensors(expected).items():
        torch.testing.assert_close(
            state.get(name), tensor, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resuming_is_bitwise_with_dropout(shards, tmp_path, precision):
    overrides = {"encoder": {"dropout": 0.1}, "heads_dropout": 0.1, "train": {"precision": precision}}
    config = configure(shards, tmp_path, **overrides)
    whole, expected = run(config, 2)
    expected = {name: expected.get(name).clone() for name in expected.names()}
    forget_last_checkpoint(Path(config.run_folder))
    resumed, state = run(config, 2)
    assert resumed == whole
    for name, tensor in expected.items():
        assert torch.equal(state.get(name), tensor), name
