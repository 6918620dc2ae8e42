"""Memory of a rank and traffic of a step: the formulae against what real ranks hold and send."""

import gc
import time
import warnings
from collections import Counter
from dataclasses import replace

import pytest
import torch
import yaml
from torch._subclasses.fake_tensor import is_fake

from spe_dist.methods.registry import spec_of
from spe_dist.models.saved_encoder import resolve_encoder_config
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from spe_dist.train.data_order import build_plan, open_reader
from spe_dist.train.footprint import rank_memory, step_transfers
from spe_dist.train.session import open_session
from spe_dist.train.stop_signal import StopSignal
from tests.distributed.collectives import recorded_collectives
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

pytestmark = pytest.mark.distributed
CASES = {
    1: [(2, "bf16"), (3, "bf16")],
    2: [(1, "fp32"), (1, "bf16"), (2, "fp32"), (3, "bf16")],
    4: [(1, "bf16"), (2, "bf16"), (3, "fp32")],
}
PASSING = {"reduction buffers", "gathered weights"}  # parts that are there in the middle of a pass only
BATCH = {"lanes": 5, "lane_size": 2, "lanes_per_forward": 1}  # 4 ranks do not share 5 lanes equally


def configure(folder, recipe, stage, precision, world_size):
    values = yaml.safe_load(config_yaml(load_recipe(ROOT / f"launcher/recipes/{recipe}.yaml")))
    sections = {
        "run": {"name": f"{stage}-{precision}-{world_size}", "folder": str(folder / "runs")},
        "data": {"shards": str(folder / "shards")},
        "batch": BATCH | ({"pieces_per_forward": 1_000_000} if recipe == "enpar_debug" else {}),  # a number travels
        "encoder": {"layers": 1, "hidden_size": 64, "intermediate_size": 128},
        "train": {"zero_stage": stage, "precision": precision},
    }
    if recipe == "debug":
        sections["cspo"] = {"queue_size": 1024}
    for section, settings in sections.items():
        values[section] = values[section] | settings
    return config_from_values(values, source="test")


def storages():
    """Bytes of the memory of every new tensor that Python can reach, by address."""
    gc.collect()
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some objects warn when they are asked for their type
        # Without those of earlier compilations in this process, which have no memory.
        tensors = [item for item in gc.get_objects() if isinstance(item, torch.Tensor) and not is_fake(item)]
        tensors += [item.grad for item in tensors if item.is_leaf and item.grad is not None]
    for tensor in tensors:
        if tensor.device.type == "cpu" and tensor.layout == torch.strided:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return found


def bytes_held(before):
    time.sleep(0.05)
    return sum(size for at, size in storages().items() if at not in before)


def count(config):
    """Bytes that the second of two steps sends, by collective, and most bytes held between its passes."""
    before = storages()
    gc.freeze()  # from here on only new objects are looked at, which is quick
    held = 0
    with open_session(replace(config, train=replace(config.train, steps=2))) as session:
        stop, backward = StopSignal(session.folder, session.world), session.engine.backward

        def weighed_backward(loss):
            nonlocal held
            backward(loss)
            # A thread of gloo may still be letting go of what it has just sent: the smallest of a few looks.
            held = max(held, min(bytes_held(before) for _ in range(4)))

        session.engine.backward = weighed_backward
        for batches in session.batches():
            with recorded_collectives() as calls:
                session.take_step(batches, 0.0)
                stop.poll()
    stop.poll()  # waits for the last one
    gc.unfreeze()
    sent = Counter()
    for call in calls:
        sent[call.collective] += call.size
    return dict(sent), held


def predict(config, world_size):
    manifest = open_reader(config).manifest
    sizes = {"vocab_size": manifest.tokenizer.vocab_size, "max_pieces": manifest.max_pieces}
    model = spec_of(config).model_without_weights(config, resolve_encoder_config(config.encoder, **sizes), manifest)
    sent = Counter()
    for transfer in step_transfers(config, model, build_plan(config, world_size)):
        sent[transfer.collective] += transfer.payload
    memory = rank_memory(config, model, world_size=world_size)
    held = sum(size for part, size in memory.items() if part not in PASSING)
    if config.train.zero_stage == 3:
        held += memory["reduction buffers"] // 2  # one of two stays between passes
    elif (config.train.zero_stage, config.train.precision) == (1, "fp32"):
        held += memory["reduction buffers"]  # until a step's last pass
    return dict(sent), held


def count_all(configs):
    return [count(config) for config in configs]


@pytest.mark.parametrize(
    ("recipe", "world_size"),
    [
        pytest.param("debug", 1, marks=pytest.mark.slow),
        ("debug", 2),
        pytest.param("debug", 4, marks=pytest.mark.slow),
        ("enpar_debug", 2),
    ],
)
def test_bytes_are_predicted_exactly_and_memory_to_a_tenth(tmp_path, recipe, world_size):
    write_dataset(tmp_path / "shards", entities=recipe == "enpar_debug")
    configs = [configure(tmp_path, recipe, stage, precision, world_size) for stage, precision in CASES[world_size]]
    for rank in run_ranks(count_all, world_size, configs):
        for case, config, (sent, held) in zip(CASES[world_size], configs, rank, strict=True):
            expected_sent, expected_held = predict(config, world_size)
            assert sent == expected_sent, case
            assert held == pytest.approx(expected_held, rel=0.1), case
