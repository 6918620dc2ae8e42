"""What share of a run's first step each objective has: its gradient on the layers of the sentence encoder."""

from __future__ import annotations

from functools import partial
from itertools import count

import numpy as np
import torch

from data_shards.shards.reader import ShardReader
from spe_dist.batches.batch import Batch
from spe_dist.checkpoint.random_states import seed_random_generators
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.kernels import compiled as span_pool_bodies
from spe_dist.kernels import short_attention
from spe_dist.methods.method import Method
from spe_dist.methods.registry import spec_of
from spe_dist.train.data_order import build_order, build_plan, open_reader
from spe_dist.train.gradients import ObjectiveGradient, gradients_of_step, objectives_of


def measure_gradients(config: Config) -> list[ObjectiveGradient]:
    """The gradient of each objective at the start of a run: a whole step's records, no dropout.

    SPE's queue holds keys of the records of later steps, as many as the recipe's queue or 2,048.
    """
    world, plan, reader = World(), build_plan(config, 1), open_reader(config)
    device = world.device
    seed_random_generators(config.run.seed)
    span_pool_bodies.choose(config.kernels.span_pool, device)
    short_attention.choose(config.kernels.attention, device)
    method = spec_of(config).build(config, reader, device=device)
    method.begin()
    method.model.to(device).eval()
    later = (batch for step in count(1) for batch in _batches(method, config, plan, reader, step=step))
    method.prefill(batch.to(device) for batch in later)
    batches = _batches(method, config, plan, reader, step=0)
    rounded = partial(torch.autocast, "cuda", dtype=torch.bfloat16, enabled=device.type == "cuda")
    return gradients_of_step(method, world, plan, batches, objectives_of(config, method), forward_in=rounded)


def _batches(method: Method, config: Config, plan: BatchPlan, reader: ShardReader, *, step: int) -> list[Batch]:
    order = build_order(config, reader.manifest)
    batches = []
    for lanes in plan.forwards(0):
        ids = np.asarray(order.record_ids(step, lanes))
        batches.append(method.collate(reader.take(ids), ids, step, lanes))
    return batches
