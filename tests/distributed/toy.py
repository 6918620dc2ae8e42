"""A model that is small but has what is difficult: two parameter groups, a tied weight, sizes that do not divide."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.deepspeed_engine import Engine
from spe_dist.engine.world import World

PLAN = {"lanes": 4, "lane_size": 4, "lanes_per_forward": 1}
VOCABULARY, WIDTH = 11, 13


class Toy(nn.Module):
    """Predicts its own input through a tied decoder, reached from another module's forward."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.inner = nn.Sequential(nn.Linear(WIDTH, 17), nn.GELU(), nn.LayerNorm(17), nn.Linear(17, WIDTH))
        self.bias = nn.Parameter(torch.zeros(VOCABULARY))

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.inner(self.words(ids))
        logits = nn.functional.linear(hidden, self.words.weight) + self.bias
        return nn.functional.cross_entropy(logits.float(), (ids + 1) % VOCABULARY, reduction="sum")


def build_toy() -> Toy:
    torch.manual_seed(0)
    return Toy()


def build_engine(module: nn.Module, stage: int, precision: str, clip: float = 1.0) -> Engine:
    world = World.from_environment()
    accumulation = BatchPlan(**PLAN, world_size=world.size).accumulation
    return Engine(
        module,
        world=world,
        accumulation=accumulation,
        stage=stage,
        precision=precision,
        weight_decay=0.1,
        clip=clip,
    )


def lane_ids(step: int, lane: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * step + lane)
    return torch.randint(VOCABULARY, (PLAN["lane_size"],), generator=generator)


def run_forwards(engine: Engine, step: int) -> float:
    """All forwards and backwards of this rank at a step; returns this rank's part of the loss."""
    plan = BatchPlan(**PLAN, world_size=engine.world.size)
    total = 0.0
    for lanes in plan.forwards(engine.world.rank):
        ids = torch.cat([lane_ids(step, lane) for lane in lanes]) if lanes else torch.zeros(0, dtype=torch.long)
        loss = engine.forward(ids) / plan.global_batch
        engine.backward(loss)
        total += loss.item()
    return total


def train(engine: Engine, steps: range) -> list[float]:
    """Global losses of some steps."""
    losses = []
    for step in steps:
        part = run_forwards(engine, step)
        engine.step(0.02 * 0.9**step)
        losses.append(sum(engine.world.all_gather_objects(part)))
    return losses


def whole_state(engine: Engine) -> dict[str, Tensor]:
    """The state of all ranks, on every rank."""
    parts = engine.world.all_gather_objects(dict(engine.read_state(lambda _, tensor: tensor.clone())))
    return {name: tensor for part in parts for name, tensor in part.items()}
