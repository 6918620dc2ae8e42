"""What a step hands to collectives and what a rank holds, counted on real ranks, beside what `spe plan` predicts."""

from __future__ import annotations

import gc
import json
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from spe_dist.benchmarks.collectives import recorded_collectives
from spe_dist.benchmarks.timing import Timed
from spe_dist.config import Config
from spe_dist.methods.costs import costs_of
from spe_dist.models.sentence_encoder import resolve_encoder_config
from spe_dist.train.memory import rank_memory
from spe_dist.train.plan import build_plan, open_reader
from spe_dist.train.scale_plan import step_transfers
from spe_dist.train.session import open_session
from spe_dist.train.stop_signal import StopSignal

WORLDS = (1, 2, 4)
_STAGES: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
_STEPS = 2
_REDUCTION_BUFFER = 500_000_000  # bytes: no tensor but DeepSpeed's buffer for reducing is as large
_PASSING = {"reduction buffers", "gathered weights"}  # parts that are there in the middle of a pass only


@dataclass(frozen=True)
class Costs:
    """Of a rank: bytes of a step by collective, and most bytes held between its passes, without passing parts."""

    sent: dict[str, int]
    held: int


def measure_costs(config: Config) -> list[Timed]:
    """Every stage on 1, 2 and 4 gloo ranks of this machine: bytes counted and predicted."""
    rows = []
    for world_size in WORLDS:
        variants = [replace(config, train=replace(config.train, zero_stage=stage)) for stage in _STAGES]
        with tempfile.TemporaryDirectory() as folder:
            arguments = (world_size, folder, variants)
            torch.multiprocessing.spawn(_measure_as_rank, arguments, nprocs=world_size)
            counted = json.loads(Path(folder, "counted.json").read_text())
        for variant, (sent, held, seconds) in zip(variants, counted, strict=True):
            predicted = predict_costs(variant, world_size)
            case = f"{world_size} ranks, ZeRO-{variant.train.zero_stage}, {variant.train.precision}"
            notes: dict[str, float | str] = {
                "sent bytes": f"{sum(sent.values()):,}",
                "sent bytes, predicted": f"{sum(predicted.sent.values()):,}",
                "held MB": held / 1e6,
                "held MB, predicted": predicted.held / 1e6,
            }
            rows.append(Timed(case, "set-up and two steps, each", [seconds], notes))
    return rows


def count_costs(config: Config) -> Costs:
    """Run two steps on this rank and count in the second; every rank must call this."""
    before = _storages()
    gc.freeze()  # from here on only new objects are looked at, which is quick
    config = replace(config, train=replace(config.train, steps=_STEPS))
    held = 0
    with open_session(config) as session:
        stop, backward = StopSignal(session.folder, session.world), session.engine.backward

        def weighed_backward(loss: Tensor) -> None:
            nonlocal held
            backward(loss)
            # A thread of gloo may still be letting go of what it has just sent: the smallest of a few looks.
            held = max(held, min(_bytes_held(before) for _ in range(4)))

        session.engine.backward = weighed_backward  # type: ignore[method-assign]
        for batches in session.batches():
            with recorded_collectives() as calls:
                session.take_step(batches, 0.0)
                stop.poll()
    stop.poll()  # waits for the last one
    gc.unfreeze()
    sent: Counter[str] = Counter()
    for call in calls:
        sent[call.collective] += call.size
    return Costs(dict(sent), held)


def predict_costs(config: Config, world_size: int) -> Costs:
    """The same by formula."""
    manifest = open_reader(config).manifest
    encoder = resolve_encoder_config(
        config.encoder, vocab_size=manifest.tokenizer.vocab_size, max_pieces=manifest.max_pieces
    )
    costs = costs_of(config, encoder, manifest)
    sent: Counter[str] = Counter()
    for transfer in step_transfers(config, costs, build_plan(config, world_size)):
        sent[transfer.collective] += transfer.payload
    memory = rank_memory(config, costs.model, world_size=world_size)
    return Costs(dict(sent), sum(size for part, size in memory.items() if part not in _PASSING))


def _measure_as_rank(rank: int, world_size: int, folder: str, configs: Sequence[Config]) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    counted = []
    for index, config in enumerate(configs):
        run = replace(config.run, name=str(index), folder=folder)
        started = time.perf_counter()
        costs = count_costs(replace(config, run=run))
        counted.append((costs.sent, costs.held, (time.perf_counter() - started) / _STEPS))
    if rank == 0:
        Path(folder, "counted.json").write_text(json.dumps(counted))
    dist.destroy_process_group()


def _bytes_held(before: dict[int, int]) -> int:
    time.sleep(0.05)
    return sum(size for at, size in _storages().items() if at not in before and size < _REDUCTION_BUFFER)


def _storages() -> dict[int, int]:
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
