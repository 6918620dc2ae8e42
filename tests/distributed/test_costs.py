"""Bytes on the wire and memory, predicted by formula, against what real ranks send and hold."""

import gc
import time
import warnings
from collections import Counter

import pytest
import torch
import yaml

from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.zero_costs import zero_transfers
from spe_dist.methods.spe import new_spe_model
from spe_dist.methods.spe_costs import spe_transfers
from spe_dist.models.sentence_encoder import resolve_encoder_config
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from spe_dist.train.memory import group_sizes, rank_memory
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
BATCH = {"lanes": 5, "lane_size": 2, "lanes_per_forward": 1}  # 4 ranks do not share 5 lanes equally
STEPS = 2
BUFFER = 500_000_000  # bytes: only DeepSpeed's buffer for reducing is as large


def configure(folder, stage, precision, world_size):
    values = yaml.safe_load(config_yaml(load_recipe(ROOT / "launcher/recipes/debug.yaml")))
    sections = {
        "run": {"name": f"{stage}-{precision}-{world_size}", "folder": str(folder / "runs")},
        "data": {"shards": str(folder / "shards")},
        "batch": BATCH,
        "encoder": {"layers": 1, "hidden_size": 64, "intermediate_size": 128},
        "cspo": {"queue_size": 1024},
        "train": {"steps": STEPS, "zero_stage": stage, "precision": precision},
    }
    for section, settings in sections.items():
        values[section] = values[section] | settings
    return config_from_values(values, source="test")


def measure(configs):
    return [measure_run(config) for config in configs]


def measure_run(config):
    """(collective, bytes) of a step in the middle; bytes of tensors held after a backward pass, at most."""
    before = storages()
    gc.freeze()  # from here on only new objects are looked at, which is quick
    session = open_session(config)
    stop, held = StopSignal(session.folder, session.world), []
    for step, batches in enumerate(session.batches()):
        with recorded_collectives() as calls:
            session.begin_step(batches)
            for batch in batches:
                session.forward_backward(batch)
                if step == STEPS - 1:
                    held.append(min(bytes_held(before) for _ in range(4)))
            session.engine.step(0.0)
            session.method.after_step(session.engine, session.world, session.plan)
            stop.poll()
    session.close()
    stop.poll()  # waits for the last one
    gc.unfreeze()
    return sizes(calls), max(held)


def sizes(calls):
    total = Counter()
    for call in calls:
        total[call.collective] += call.size
    return total


def bytes_held(before):
    time.sleep(0.05)  # a thread of gloo may still be letting go of what it has just sent
    return sum(size for at, size in storages().items() if at not in before and size < BUFFER)


def storages():
    """Bytes of the memory of every new tensor that Python can reach, by address."""
    gc.collect()
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some objects warn when they are asked for their type
        tensors = [item for item in gc.get_objects() if isinstance(item, torch.Tensor)]
        tensors += [item.grad for item in tensors if item.is_leaf and item.grad is not None]
    for tensor in tensors:
        if tensor.device.type == "cpu" and tensor.layout == torch.strided:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return found


def predict(config, world_size, vocab_size):
    encoder = resolve_encoder_config(config.encoder, vocab_size=vocab_size, max_pieces=128)
    with torch.device("meta"):
        model = new_spe_model(config, encoder)
    plan = BatchPlan(**BATCH, world_size=world_size)
    zero = zero_transfers(
        group_sizes(model),
        stage=config.train.zero_stage,
        precision=config.train.precision,
        world_size=world_size,
        accumulation=plan.accumulation,
    )
    sent = Counter()
    for transfer in zero + spe_transfers(config, model, plan):
        sent[transfer.collective] += transfer.payload
    return sent, rank_memory(config, model, world_size=world_size)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_bytes_are_predicted_exactly_and_memory_to_a_tenth(tmp_path, world_size):
    vocab_size = write_dataset(tmp_path / "shards").tokenizer.vocab_size
    configs = [configure(tmp_path, stage, precision, world_size) for stage, precision in CASES[world_size]]
    for rank in run_ranks(measure, world_size, configs):
        for case, config, (sent, held) in zip(CASES[world_size], configs, rank, strict=True):
            predicted, memory = predict(config, world_size, vocab_size)
            passing = {"reduction buffers", "gathered weights"}
            expected = sum(size for part, size in memory.items() if part not in passing)
            assert sent == predicted, case
            assert held == pytest.approx(expected, rel=0.1), case
