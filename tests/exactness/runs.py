"""Whole runs of a tiny model on several ranks, to be watched, disturbed and compared."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from torch import Tensor

from spe_dist.checkpoint.reader import LoadedCheckpoint, list_checkpoints
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from spe_dist.train import session
from spe_dist.train.loop import train
from spe_dist.train.metric_names import OF_THE_MACHINE
from spe_dist.train.run_log import read_metrics
from spe_dist.train.session import Session
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.tiny_run import ROOT, SMALL, SMALL_ENPAR, SMALL_ERICA, SMALL_SPANBERT

# 4 lanes: 3 ranks do not divide them, so forwards differ and one is empty; the queue is no multiple of the batch of 16
# records, and it wraps in the third step.
TINY = {
    "run": {"seed": 8},  # one with which no rounding makes max-pooling choose another window (see test_topology.py)
    "encoder": {"layers": 1},
    "batch": {"lanes": 4, "lane_size": 4, "lanes_per_forward": 1},
    "cspo": {"queue_size": 40},
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 5},
    "train": {"steps": 50, "log_every": 1, "checkpoint_every": 1000},
}
RECIPES = {
    "spe": ("debug", SMALL, TINY),
    "enpar": ("enpar_debug", SMALL_ENPAR, TINY | {"run": {"seed": 1}}),
    "erica": ("erica_debug", SMALL_ERICA, TINY),
    "mlm": ("spanbert_minilm_cpu", SMALL_SPANBERT, TINY),
}
LOSSES = {
    "spe": ("loss", "tbo_loss", "spo_loss", "cspo_loss"),
    "enpar": ("loss", "met_loss", "mep_loss", "acd_loss", "pp_loss"),
    "erica": ("loss", "ed_loss", "rd_loss", "mlm_loss"),
    "mlm": ("loss", "mlm_loss", "sbo_loss"),
}
DIGESTS = {
    "spe": ("digest_records", "digest_masks", "digest_queue"),
    "enpar": ("digest_records", "digest_masks"),
    "erica": ("digest_records", "digest_masks", "digest_relations"),
    "mlm": ("digest_records", "digest_masks"),
}
DROPOUT = {"encoder": {"dropout": 0.1}, "heads_dropout": 0.1}


def configure(shards: Path, runs: Path, *, method: str = "spe", **overrides: Any) -> Any:
    """A run named after its folder; `train={"steps": 4}` changes a setting. ENPAR's and ERICA's data are beside."""
    recipe, small, tiny = RECIPES[method]
    values = yaml.safe_load(config_yaml(load_recipe(ROOT / f"launcher/recipes/{recipe}.yaml")))
    data = shards.with_name({"enpar": "entity_shards", "erica": "document_shards"}.get(method, shards.name))
    places = {"run": {"folder": str(runs), "name": "debug"}, "data": {"shards": str(data)}}
    for settings in (small, tiny, places, overrides):
        for section, keys in settings.items():
            if section not in values and section in SMALL | TINY | DROPOUT:  # of the other method
                continue
            values[section] = values[section] | keys if isinstance(keys, dict) else keys
    return config_from_values(values, source="test")


def run(world_size: int, configs: Sequence[Any]) -> list[Path]:
    """Train several runs, one after another, on the same processes; their folders."""
    run_ranks(train_all, world_size, configs)
    return [Path(config.run_folder) for config in configs]


def train_all(configs: Sequence[Any]) -> None:
    """Train several runs on this rank, one after another."""
    for config in configs:
        train(config)


def metrics_of(folder: Path) -> list[dict]:
    """What the steps came to; not how fast they were."""
    return [{k: v for k, v in line.items() if k not in OF_THE_MACHINE} for line in read_metrics(folder)]


def final_state(folder: Path) -> dict[str, Tensor]:
    """All tensors of a run's last checkpoint."""
    return state_of(list_checkpoints(folder / "checkpoints")[-1])


def state_of(checkpoint: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, those of random generators included."""
    loaded = LoadedCheckpoint(checkpoint)
    return {name: loaded.get(name) for name in loaded.names()}


def assert_bitwise(one: dict[str, Tensor], other: dict[str, Tensor], case: object = "") -> None:
    """Two states are the same, bit by bit."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, (case, different)


@contextmanager
def stopped_after(step: int, rank: int) -> Iterator[None]:
    """Send this process SIGTERM or SIGUSR1, if it is the rank, so that the run stops after some steps, at least 2."""
    take_step, made = Session.take_step, 0

    def signalling(here: Session, batches: Any, learning_rate: float) -> None:
        nonlocal made
        take_step(here, batches, learning_rate)
        made += 1
        if here.world.rank == rank and here.first_step + made == step - 1:  # the answer of the flag is one step old
            os.kill(os.getpid(), signal.SIGUSR1 if step % 2 else signal.SIGTERM)

    with patch.object(Session, "take_step", signalling):
        yield


@contextmanager
def disturbed_before_loading() -> Iterator[None]:
    """Fill every kind of state with something else right before a checkpoint is loaded: what is not loaded shows."""
    load_masters_into, restore = session.load_masters_into, session._restore

    def load_into_other_weights(module: torch.nn.Module, get_tensor: Any) -> None:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        load_masters_into(module, get_tensor)

    def restore_into_other_state(checkpoint: Any, engine: Any, method: Any, metrics: Any) -> Any:
        disturb(engine, method, metrics)
        return restore(checkpoint, engine, method, metrics)

    with ExitStack() as stack:
        stack.enter_context(patch.object(session, "load_masters_into", load_into_other_weights))
        stack.enter_context(patch.object(session, "_restore", restore_into_other_state))
        yield


def disturb(engine: Any, method: Any, metrics: Any) -> None:
    """Change masters, moments, Adam's step, key encoder, queues, sums, counters and random generators."""
    torch.manual_seed(9_999)
    shapes = engine._shapes
    other = {name: torch.rand(shapes[name.rpartition(".")[0]]) for name in sorted(engine.state_names)}
    engine.write_state(other.__getitem__, adam_step=777)
    for tensor in (method.state() | metrics.tensors()).values():
        tensor.copy_(torch.randint(1, 9, tensor.shape))
    metrics.seconds_before = 1e9
    np.random.seed(9_999)
    random.seed(9_999)
