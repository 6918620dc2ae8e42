"""What share of a step each objective has: the gradient of its weighted loss on the layers of the sentence encoder.

A run measures a step that it is about to take, on a model beside the one that it trains, whose weights are those of the
engine and whose buffers are its own. So the engine sees no forward and no backward pass beside its own, at any stage of
ZeRO, and whatever a method keeps or draws in a step is kept and drawn by a copy of it (`Method.apart`). The random
generators are put back where they were: dropout is that of the step itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from spe_dist.batches.batch import Batch
from spe_dist.checkpoint.random_states import unchanged_random_states
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.method import Method
from spe_dist.methods.registry import spec_of
from spe_dist.train.metric_names import GRADIENTS, SHARE

if TYPE_CHECKING:
    from spe_dist.engine.deepspeed_engine import Engine

ForwardIn = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class ObjectiveGradient:
    """Gradient of one objective's mean loss in a step, times the objective's weight."""

    objective: str
    weight: float
    loss: float
    """Loss without the objective's weight."""
    norm: float
    share: float
    """Share of the step's gradient g: g_i · g / |g|². Shares sum to 1; below 0: the other objectives outweigh it."""


def objectives_of(config: Config, method: Method) -> dict[str, float]:
    """Weights of the objectives that are trained."""
    summary = spec_of(config).summarize(config, method.encoder_config)
    return {objective.key: objective.weight for objective in summary.objectives if objective.weight}


def gradients_of_step(
    method: Method,
    world: World,
    plan: BatchPlan,
    batches: Sequence[Batch],
    objectives: Mapping[str, float],
    *,
    forward_in: ForwardIn = nullcontext,
) -> list[ObjectiveGradient]:
    """Gradients of a step of all ranks, each objective's alone; every rank must call this.

    Takes a backward pass through the encoder for each objective and forward, and memory for the layers' gradient of
    each objective, in fp32.

    Args:
        method: without an engine, its model in the mode to be measured. It goes through a step.
        world: this rank among all.
        plan: plan of the step.
        batches: this rank's forwards, on the host.
        objectives: weights by objective; a term belongs to the one whose name it begins with.
        forward_in: context of each forward.
    """
    engine, device = cast("Engine", _PlainEngine(method.model)), world.device
    with forward_in():
        more = method.before_step(engine, world, plan, batches)
    counts = torch.stack([batch.counts for batch in batches]).sum(dim=0)
    counts += torch.tensor([more.get(term, 0) for term in method.terms])
    counts = world.all_reduce(counts.to(device))
    scale = torch.tensor(method.term_weights, device=device) / counts.clamp(min=1)
    sums = _nothing_yet(method, objectives)
    losses = torch.zeros(len(objectives), dtype=torch.float64, device=device)
    for batch in batches:
        with forward_in():
            weighted = method.forward(engine, batch.to(device))[0] * scale
        losses += _add_gradients(method.terms, weighted, _layers(method), sums).double()
        del weighted  # and the graph, which the next forward would lie beside
    world.all_reduce(losses)
    products = torch.zeros(len(objectives), len(objectives), dtype=torch.float64, device=device)
    for parts in zip(*sums.values(), strict=True):  # of one parameter; in double, they are not wanted all at once
        of_parameter = world.all_reduce(torch.stack([part.flatten() for part in parts])).double()
        products += of_parameter @ of_parameter.T
    norms, shares = products.diagonal().sqrt(), products.sum(dim=1) / products.sum()
    rows = zip(objectives.items(), losses.tolist(), norms.tolist(), shares.tolist(), strict=True)
    return [ObjectiveGradient(name, weight, loss / weight, norm, share) for (name, weight), loss, norm, share in rows]


class StepGradients:
    """Measures a step now and then, of a run that goes on as if nobody had.

    Args:
        config: the run.
        method: of it, before an engine has its model.
        plan: plan of its batches.
        world: this rank among all.
    """

    def __init__(self, config: Config, method: Method, plan: BatchPlan, world: World) -> None:
        self._train, self._plan, self._world = config.train, plan, world
        self._objectives = objectives_of(config, method)
        dtype = torch.bfloat16 if config.train.precision == "bf16" else torch.float32
        self._model: nn.Module = deepcopy(method.model).to(dtype)  # as an engine will compute
        self._parameters = dict(self._model.named_parameters())
        self._leave_weights()
        self._model.to(world.device)
        self._found: list[ObjectiveGradient] = []

    def is_due(self, step: int) -> bool:
        """Whether a step, the first being 1, is measured: the last before a line of metrics that has the figures."""
        every, line_before = self._train.gradients_every, step - self._train.log_every
        return step % self._train.log_every == 0 and step // every > line_before // every

    def measure(self, method: Method, engine: Engine, batches: Sequence[Batch]) -> float:
        """Measure the step of these forwards, before it is taken; every rank must call this.

        Returns:
            The seconds that it took.
        """
        if self._world.device.type == "cuda":
            torch.cuda.synchronize(self._world.device)  # what was launched before is not of these seconds
        began = time.perf_counter()
        with unchanged_random_states(self._world), engine.gather_parameters(self._parameters) as weights:
            self._take_weights(weights, method.model)
            apart = method.apart(self._model)
            self._found = gradients_of_step(apart, self._world, self._plan, batches, self._objectives)
            self._leave_weights()
        return time.perf_counter() - began

    def rehearse(self, method: Method, engine: Engine, batch: Batch) -> None:
        """Take the memory that measuring takes, with one of the largest forwards, on the device."""
        with engine.gather_parameters(self._parameters) as weights:
            self._take_weights(weights, method.model)
            apart = method.apart(self._model)
            losses = apart.rehearse(cast("Engine", _PlainEngine(self._model)), batch)
            _add_gradients(method.terms, losses, _layers(apart), _nothing_yet(apart, self._objectives))
            self._leave_weights()

    def report(self) -> dict[str, float]:
        """Norm and share of each objective, of the step measured last, once; nothing if none was since."""
        found, self._found = self._found, []
        norms = {f"{GRADIENTS}{row.objective}": row.norm for row in found}
        return norms | {f"{GRADIENTS}{row.objective}{SHARE}": row.share for row in found}

    def _take_weights(self, weights: Mapping[str, Tensor], trained: nn.Module) -> None:
        """Compute with the trained model's own weights, without a copy of them, in its mode."""
        for name, parameter in self._parameters.items():
            parameter.data = weights[name]
        for mine, its in zip(self._model.modules(), trained.modules(), strict=True):
            mine.training = its.training

    def _leave_weights(self) -> None:
        for parameter in self._parameters.values():
            parameter.data = parameter.data.new_empty(0)


class _PlainEngine:
    """What a method asks of an engine in a forward."""

    def __init__(self, model: nn.Module) -> None:
        self.forward = model


def _layers(method: Method) -> list[nn.Parameter]:
    return list(cast(Any, method.model).encoder.sentence_encoder.layers.parameters())


def _nothing_yet(method: Method, objectives: Iterable[str]) -> dict[str, list[Tensor]]:
    return {name: [torch.zeros_like(layer, dtype=torch.float32) for layer in _layers(method)] for name in objectives}


def _add_gradients(
    terms: Sequence[str], weighted: Tensor, layers: Sequence[nn.Parameter], sums: Mapping[str, Sequence[Tensor]]
) -> Tensor:
    """Add the gradient of each objective's terms to its sums; the objectives' losses, [objectives]."""
    losses = []
    for name, total in sums.items():
        loss = weighted[[i for i, term in enumerate(terms) if term.partition("_")[0] == name]].sum()
        losses.append(loss.detach())
        if loss.requires_grad:
            found = torch.autograd.grad(loss, layers, retain_graph=True, allow_unused=True)
            for sum_, gradient in zip(total, found, strict=True):
                if gradient is not None:
                    sum_ += gradient
    return torch.stack(losses)
