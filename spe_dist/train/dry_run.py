"""`--dry-run`: check configuration, data and encoder, and say what a run would be, in seconds and without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from data_shards.errors import UserError
from data_shards.manifest import Manifest
from data_shards.order import Order
from spe_dist.checkpoint.remote_folder import RemoteFolder
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.compiler import require_compiler
from spe_dist.kernels import compiled as span_pool_bodies
from spe_dist.methods.costs import Costs
from spe_dist.methods.registry import costs_of
from spe_dist.models.sentence_encoder import check_encoder_kind, resolve_encoder_config
from spe_dist.models.vocabulary_check import require_same_vocabulary
from spe_dist.recipe import config_yaml
from spe_dist.train.memory import checkpoint_bytes, rank_memory
from spe_dist.train.plan import build_order, build_plan, open_reader

_MIB = 2**20


@dataclass(frozen=True)
class CheckedRun:
    """A configuration that could be started, with what was looked up to know that."""

    manifest: Manifest
    order: Order
    plan: BatchPlan
    costs: Costs


def check_run(config: Config, *, world_size: int) -> CheckedRun:
    """Check all that can be checked before any rank starts: settings, data, encoder, ranks and lanes, compiler.

    Raises:
        UserError: the run could not start as it is configured.
    """
    if config.run_url is not None:
        RemoteFolder(config.run_url)
    reader = open_reader(config)
    manifest = reader.manifest
    if config.optimizer.warmup_steps > config.train.steps:
        raise UserError(
            f"optimizer.warmup_steps is {config.optimizer.warmup_steps}, more than train.steps {config.train.steps}: "
            "the learning rate would never reach its peak"
        )
    if config.cluster.min_workers and config.cluster.min_workers > config.cluster.workers:
        raise UserError(
            f"cluster.min_workers is {config.cluster.min_workers}, more than cluster.workers {config.cluster.workers}: "
            "the first is the fewest, the second the most"
        )
    if config.compute.compile and config.train.zero_stage == 3:
        raise UserError(
            "compute.compile does not work with train.zero_stage 3, which gathers weights between the layers: "
            "choose stage 1 or 2"
        )
    if config.encoder.name_or_path:
        check_encoder_kind(config.encoder)
        require_same_vocabulary(config.encoder.name_or_path, reader.tokenizer_folder())
    encoder = resolve_encoder_config(
        config.encoder, vocab_size=manifest.tokenizer.vocab_size, max_pieces=manifest.max_pieces
    )
    if not config.cluster.gpus_per_worker:
        require_compiler()
        span_pool_bodies.choose(config.kernels.span_pool, torch.device("cpu"))  # built before the ranks start
    plan = build_plan(config, world_size)
    costs = costs_of(config, encoder, manifest)
    return CheckedRun(manifest, build_order(config, manifest), plan, costs)


def describe_run(config: Config) -> str:
    """The resolved configuration and the plan of a run.

    Raises:
        UserError: the run could not start as it is configured.
    """
    run = check_run(config, world_size=config.cluster.workers)
    manifest, order, plan, model = run.manifest, run.order, run.plan, run.costs.model
    epochs = config.train.steps / order.steps_per_epoch
    rows = [
        ("data", _data(config, manifest, order)),
        (
            "batch",
            f"{plan.global_batch} records = {plan.lanes} lanes x {plan.lane_size}; any world size up to {plan.lanes}",
        ),
        (
            "ranks",
            f"{plan.world_size}, each {plan.accumulation} forwards a step of up to {plan.lanes_per_forward} lanes",
        ),
        ("steps", f"{config.train.steps:,} = {epochs:.2f} epochs of {order.steps_per_epoch:,}"),
        ("pieces", f"{_pieces(config, manifest, plan.global_batch):,.0f} in all, in each of two views"),
        (
            "parameters",
            f"{_parameters(model):,}, of which sentence encoder {_parameters(model.encoder.sentence_encoder):,}",
        ),
        *_memory(config, model, plan.world_size),
    ]
    table = "\n".join(f"{name:12} {text}" for name, text in rows)
    return f"{config_yaml(config)}\n{table}\ndry run: everything that can be checked without training is in order"


def _data(config: Config, manifest: Manifest, order: Order) -> str:
    counts = manifest.statistics
    size = sum(shard.filesize for shard in manifest.shardlist) / _MIB
    part = "" if config.data.fraction == 1 else f", of which {order.records:,} are read (data.fraction)"
    return f"{config.data.shards}: {counts.records:,} records, {len(manifest.shardlist)} shards, {size:.1f} MiB{part}"


def _pieces(config: Config, manifest: Manifest, global_batch: int) -> float:
    per_record = manifest.statistics.pieces / manifest.statistics.records + 2
    return per_record * global_batch * config.train.steps


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _memory(config: Config, model: Any, world_size: int) -> Sequence[tuple[str, str]]:
    parts = rank_memory(config, model, world_size=world_size)
    listed = ", ".join(f"{name} {size / _MIB:.0f}" for name, size in parts.items())
    return [
        ("memory", f"{sum(parts.values()) / _MIB:,.0f} MiB a rank without activations ({listed})"),
        ("checkpoint", f"{checkpoint_bytes(config, model) / _MIB:,.0f} MiB"),
    ]
