"""`--dry-run`: check configuration, data and encoder, and say what a run would be, in seconds and without a GPU."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import require_writable
from data_shards.shards.manifest import Manifest
from data_shards.shards.order import Order
from spe_dist.checkpoint.remote_folder import RemoteFolder
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.compiler import require_compiler
from spe_dist.kernels import compiled as span_pool_bodies
from spe_dist.methods.registry import spec_of
from spe_dist.models.architectures import architecture_of, how_it_runs
from spe_dist.models.graph_buckets import require_packed_layers
from spe_dist.models.saved_encoder import resolve_encoder_config
from spe_dist.models.vocabulary_check import require_same_vocabulary
from spe_dist.recipe import config_yaml
from spe_dist.train.data_order import build_order, build_plan, open_reader
from spe_dist.train.footprint import checkpoint_bytes, rank_memory
from spe_dist.train.run_folder import METRICS, check_same_run
from spe_dist.train.run_log import read_metrics

_MIB = 2**20
_LINES = 20  # of metrics, whose median is a run's speed


@dataclass(frozen=True)
class CheckedRun:
    """A configuration that could be started, with what was looked up to know that."""

    manifest: Manifest
    order: Order
    plan: BatchPlan
    encoder: PretrainedConfig
    model: Any  # of its method, without weights


def check_run(config: Config, *, world_size: int) -> CheckedRun:
    """Check all that can be checked before any rank starts: settings, folders, data, encoder, lanes, compiler.

    Raises:
        UserError: the run could not start as it is configured.
    """
    if config.run_url is not None:
        RemoteFolder(config.run_url)
    require_writable(Path(config.run_folder))
    reader = open_reader(config)
    manifest = reader.manifest
    spec_of(config).require_data(reader)
    _check_settings(config)
    if config.encoder.name_or_path:
        require_same_vocabulary(config.encoder.name_or_path, reader.tokenizer_folder())
    encoder = resolve_encoder_config(
        config.encoder, vocab_size=manifest.tokenizer.vocab_size, max_pieces=manifest.max_pieces
    )
    if config.compute.graph_pieces:
        require_packed_layers(config.compute.packed and architecture_of(encoder).packed)
    if not config.cluster.gpus_per_worker:
        require_compiler()
        span_pool_bodies.choose(config.kernels.span_pool, torch.device("cpu"))  # built before the ranks start
    plan, model = build_plan(config, world_size), spec_of(config).model_without_weights(config, encoder, manifest)
    return CheckedRun(manifest, build_order(config, manifest), plan, encoder, model)


def _check_settings(config: Config) -> None:
    """Raise a UserError if settings contradict each other."""
    if config.optimizer.warmup_steps > config.train.steps:
        raise UserError(
            f"optimizer.warmup_steps is {config.optimizer.warmup_steps}, more than train.steps {config.train.steps}: "
            "the learning rate would never reach its peak; lower the warm-up"
        )
    if config.cluster.min_workers and config.cluster.min_workers > config.cluster.workers:
        raise UserError(
            f"cluster.min_workers is {config.cluster.min_workers}, more than cluster.workers {config.cluster.workers}: "
            "lower the minimum"
        )
    if config.compute.compile and config.train.zero_stage == 3:
        raise UserError(
            "compute.compile does not work with train.zero_stage 3, which gathers weights between the layers: "
            "choose stage 1 or 2"
        )
    if config.compute.graph_pieces and not (config.compute.compile and config.train.zero_stage == 1):
        raise UserError(
            "compute.graph_pieces replays compiled layers, whose gradients ZeRO must take at once: set compute.compile "
            "and train.zero_stage 1"
        )
    require_gpu_for_graphs(config, "cuda" if config.cluster.gpus_per_worker else "cpu")


def require_gpu_for_graphs(config: Config, device_type: str) -> None:
    """Refuse CUDA graphs on a CPU."""
    if config.compute.graph_pieces and device_type == "cpu":
        raise UserError("compute.graph_pieces is for GPUs, and this run computes on cpu: leave it out")


def describe_run(config: Config, *, records_per_second: float | None = None) -> str:
    """The resolved configuration and the plan of a run.

    Args:
        config: configuration of the run.
        records_per_second: that it would train on; if not given, what the run has measured so far, if it has.

    Raises:
        UserError: the run could not start as it is configured.
    """
    run = check_run(config, world_size=config.cluster.workers)
    check_same_run(Path(config.run_folder), config, run.manifest.fingerprint)
    plan, model = run.plan, run.model
    rows = [
        ("data", _data(config, run.manifest, run.order)),
        (
            "batch",
            f"{plan.global_batch} records = {counted(plan.lanes, 'lane')} x {plan.lane_size}; any world size up to "
            f"{plan.lanes}",
        ),
        ("ranks", f"{plan.world_size}, each {_forwards(plan, run.manifest)}"),
        *_extent(config, run),
        ("time", _time(config, plan, records_per_second)),
        ("encoder", _sizes(config, run.encoder)),
        (
            "parameters",
            f"{_parameters(model):,}, of which sentence encoder {_parameters(model.encoder.sentence_encoder):,}",
        ),
        *_memory(config, model, plan.world_size),
    ]
    table = "\n".join(f"{name:12} {text}" for name, text in rows)
    return f"{config_yaml(_with_sizes(config, run.encoder))}\n{table}"


def _forwards(plan: BatchPlan, manifest: Manifest) -> str:
    """Number and size of the forward passes of a step, for people."""
    if plan.pieces_per_forward is None:
        return f"{counted(plan.accumulation, 'forward')} a step of up to {counted(plan.lanes_per_forward, 'lane')}"
    usual = plan.usual_accumulation(manifest.statistics.pieces / manifest.statistics.records + 2)
    return (
        f"about {counted(usual, 'forward')} a step of up to {counted(plan.pieces_per_forward, 'piece')} and "
        f"{counted(plan.lanes_per_forward, 'lane')}"
    )


def _extent(config: Config, run: CheckedRun) -> Sequence[tuple[str, str]]:
    """Steps, records and pieces in all."""
    steps, order = config.train.steps, run.order
    records = run.plan.global_batch * steps
    counts = run.manifest.statistics
    pieces = records * (counts.pieces / counts.records + 2)
    return [
        ("steps", f"{steps:,} = {steps / order.steps_per_epoch:.2f} epochs of {order.steps_per_epoch:,}"),
        ("records", f"{records:,} in all, {records / order.records:.2f} times each of {order.records:,}"),
        ("pieces", f"about {pieces:,.0f} read, [CLS] and [SEP] included"),
        ("encoded", spec_of(config).sequences(config)),
    ]


def _time(config: Config, plan: BatchPlan, records_per_second: float | None) -> str:
    """Hours at the given speed, else at the one that the run has measured."""
    folder, speed, source = Path(config.run_folder), records_per_second, "as given"
    try:
        metrics = read_metrics(folder)
    except UserError:  # it has logged nothing yet
        metrics = []
    if speed is None and metrics:
        speed = statistics.median(line["records_per_second"] for line in metrics[-_LINES:])
        source = f"as measured in {folder / METRICS}"
    if speed is None:
        return (
            "not known: give a speed as --speed RECORDS_PER_SECOND, or make some steps and ask again (the run logs "
            "records_per_second)"
        )
    done = min(metrics[-1]["step"], config.train.steps) if metrics else 0
    hours = (config.train.steps - done) * plan.global_batch / speed / 3600
    left = f" for the {config.train.steps - done:,} steps after step {done:,}" if done else ""
    return f"{hours:,.2f} hours{left} at {speed:,.4g} records/s ({source})"


def _sizes(config: Config, encoder: PretrainedConfig) -> str:
    name = config.encoder.name_or_path or "a new one"
    return (
        f"{name}: {encoder.num_hidden_layers} layers of {encoder.hidden_size}, {encoder.num_attention_heads} heads, "
        f"{encoder.intermediate_size} inside, {encoder.max_position_embeddings} positions, vocabulary of "
        f"{encoder.vocab_size:,}; {how_it_runs(encoder)}"
    )


def _with_sizes(config: Config, encoder: PretrainedConfig) -> Config:
    """The settings with the sizes of the encoder that they name in place of a new one's."""
    sizes = replace(
        config.encoder,
        layers=encoder.num_hidden_layers,
        hidden_size=encoder.hidden_size,
        heads=encoder.num_attention_heads,
        intermediate_size=encoder.intermediate_size,
        max_positions=encoder.max_position_embeddings,
    )
    return replace(config, encoder=sizes)


def _data(config: Config, manifest: Manifest, order: Order) -> str:
    counts = manifest.statistics
    size = sum(shard.filesize for shard in manifest.shardlist) / _MIB
    part = "" if config.data.fraction == 1 else f", of which {order.records:,} are read (data.fraction)"
    part += f", {order.held_out:,} are held out (data.held_out)" if order.held_out else ""
    held = f"{counted(counts.records, 'record')}, {counted(len(manifest.shardlist), 'shard')}"
    return f"{config.data.shards}: {held}, {size:.1f} MiB{part}"


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _memory(config: Config, model: Any, world_size: int) -> Sequence[tuple[str, str]]:
    parts = rank_memory(config, model, world_size=world_size)
    listed = ", ".join(f"{name} {size / _MIB:.0f}" for name, size in parts.items() if size)
    return [
        ("memory", f"{sum(parts.values()) / _MIB:,.0f} MiB a rank without activations ({listed})"),
        ("checkpoint", f"{checkpoint_bytes(config, model) / _MIB:,.0f} MiB"),
    ]
