"""What share of a run's first step each objective has: its gradient on the layers of the sentence encoder."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

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

if TYPE_CHECKING:
    from spe_dist.engine.deepspeed_engine import Engine


@dataclass(frozen=True)
class ObjectiveGradient:
    """Of the step's mean loss of one objective, times its weight."""

    objective: str
    weight: float
    loss: float
    """Without the weight."""
    norm: float
    share: float
    """Of the step's gradient g: g_i · g / |g|², which is below 0 for one that the others overrule; the sum is 1."""


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
    return gradients_of_step(method, plan, batches, objectives_of(config, method))


def objectives_of(config: Config, method: Method) -> dict[str, float]:
    """Weights of the objectives that are trained."""
    summary = spec_of(config).summarize(config, method.encoder_config)
    return {objective.key: objective.weight for objective in summary.objectives if objective.weight}


def gradients_of_step(
    method: Method, plan: BatchPlan, batches: list[Batch], objectives: dict[str, float]
) -> list[ObjectiveGradient]:
    """Gradients of the forwards of one step, added up as training does.

    Args:
        method: without an engine, its model in the mode to be measured.
        plan: of one rank.
        batches: of the step, on the host.
        objectives: weights by objective; a term belongs to the one whose name it begins with.
    """
    world, engine = World(), cast("Engine", _PlainEngine(method.model))
    autocast = torch.autocast("cuda", dtype=torch.bfloat16, enabled=world.device.type == "cuda")
    with autocast:
        more = method.before_step(engine, world, plan, batches)
    counts = torch.stack([batch.counts for batch in batches]).sum(dim=0)
    counts += torch.tensor([more.get(term, 0) for term in method.terms])
    scale = (torch.tensor(method.term_weights) / counts.clamp(min=1)).to(world.device)
    layers = list(cast(Any, method.model).encoder.sentence_encoder.layers.parameters())
    gradients = {name: [torch.zeros_like(parameter) for parameter in layers] for name in objectives}
    losses = dict.fromkeys(objectives, 0.0)
    for batch in batches:
        with autocast:
            weighted = method.forward(engine, batch.to(world.device))[0] * scale
        for name, total in gradients.items():
            terms = [i for i, term in enumerate(method.terms) if term.partition("_")[0] == name]
            loss = weighted[terms].sum()
            losses[name] += float(loss.detach()) / objectives[name]
            found = torch.autograd.grad(loss, layers, retain_graph=True, allow_unused=True)
            for sum_, gradient in zip(total, found, strict=True):
                if gradient is not None:
                    sum_ += gradient
    flat = {name: torch.cat([part.flatten() for part in total]).double() for name, total in gradients.items()}
    step = torch.stack(list(flat.values())).sum(dim=0)
    return [
        ObjectiveGradient(name, objectives[name], losses[name], float(one.norm()), float(one @ step / (step @ step)))
        for name, one in flat.items()
    ]


class _PlainEngine:
    """What a method asks of an engine in a forward."""

    def __init__(self, model: nn.Module) -> None:
        self.forward = model


def _batches(method: Method, config: Config, plan: BatchPlan, reader: ShardReader, *, step: int) -> list[Batch]:
    order = build_order(config, reader.manifest)
    batches = []
    for lanes in plan.forwards(0):
        ids = np.asarray(order.record_ids(step, lanes))
        batches.append(method.collate(reader.take(ids), ids, step, lanes))
    return batches
