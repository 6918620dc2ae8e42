"""Whole training steps of one process: real records, real optimizer; loading and logging left out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from spe_dist.batches.batch import Batch
from spe_dist.benchmarks.masked_language_model import Mlm
from spe_dist.benchmarks.timing import Timed, take_turns
from spe_dist.config import Config, KernelsConfig
from spe_dist.kernels import compiled as span_pool_bodies
from spe_dist.methods.enpar.config import EnparConfig
from spe_dist.methods.enpar.method import Enpar
from spe_dist.methods.registry import METHODS, Method
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.methods.spe.method import Spe
from spe_dist.train.session import Session, open_session

STEPS = 2  # of a repeat
Variant = tuple[Config, Callable[..., Method]]


def measure_packing(config: Config, *, repeats: int) -> list[Timed]:
    """The step as the papers' programs compute it, with padding and a padded span CNN, and ours."""
    padded = replace(
        config, compute=replace(config.compute, packed=False), kernels=KernelsConfig(span_pool="reference")
    )
    pooled = replace(config, compute=replace(config.compute, packed=False))
    method = METHODS[config.method]
    variants: dict[str, Variant] = {
        "padding, span_pool's reference body": (padded, method),
        "padding, compiled span_pool": (pooled, method),
        "packed, compiled span_pool": (config, method),
    }
    return measure_steps("packing", variants, repeats=repeats)


def measure_objectives(config: SpeConfig, *, repeats: int) -> list[Timed]:
    """A step of masked language modelling on one view, and the full SPE objective on the same records."""
    return measure_steps("objectives", {"MLM only": (config, Mlm), "SPE": (config, Spe)}, repeats=repeats)


def measure_methods(spe: SpeConfig, enpar: EnparConfig, *, repeats: int) -> list[Timed]:
    """A step of each method on the same records; how much more time ENPAR takes for how many more operations."""
    spe_row, enpar_row = measure_steps("methods", {"SPE": (spe, Spe), "ENPAR": (enpar, Enpar)}, repeats=repeats)
    flops = [float(row.notes["TFLOP per step"]) for row in (enpar_row, spe_row)]
    enpar_row.notes["times SPE's time"] = enpar_row.median / spe_row.median
    enpar_row.notes["times SPE's TFLOP"] = flops[0] / flops[1]
    return [spe_row, enpar_row]


def measure_steps(case: str, variants: Mapping[str, Variant], *, repeats: int) -> list[Timed]:
    """Steps of each variant in turn, over the same records; floating-point operations of a step in the notes."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sessions = {
            name: stack.enter_context(_opened(config, make_method, Path(folder) / str(index)))
            for index, (name, (config, make_method)) in enumerate(variants.items())
        }
        batches = {name: _load(session, STEPS * (repeats + 1)) for name, session in sessions.items()}
        flops = {name: _count_flops(session, batches[name][0]) for name, session in sessions.items()}
        calls = {name: _steps(session, batches[name]) for name, session in sessions.items()}
        device = next(iter(sessions.values())).world.device
        rows = take_turns(case, calls, repeats=repeats, device=device)
        for row in rows:
            row.seconds[:] = [seconds / STEPS for seconds in row.seconds]
            session = sessions[row.variant]
            row.notes["records/s"] = session.plan.global_batch / row.median
            row.notes["TFLOP per step"] = flops[row.variant] / 1e12
            row.notes["TFLOP/s"] = flops[row.variant] / 1e12 / row.median
    return rows


@contextmanager
def _opened(config: Config, make_method: Callable[..., Method], folder: Path) -> Iterator[Session]:
    config = replace(config, run=replace(config.run, folder=str(folder)))
    with open_session(config, make_method=make_method) as session:
        if isinstance(session.method, Spe) and session.method.momentum_encoder is not None:
            queue = session.method.queue  # full, as it is in all but a run's first steps
            for keys in (queue.pair_keys, queue.context_keys):
                keys.copy_(nn.functional.normalize(torch.randn_like(keys), dim=1))
            queue.enqueued.fill_(queue.size)
        yield session


def _load(session: Session, steps: int) -> list[list[Batch]]:
    loaded = [session.steps[step] for step in range(steps)]
    for batches in loaded:
        if not isinstance(batches, list):
            raise batches
    return [batches for batches in loaded if isinstance(batches, list)]


def _steps(session: Session, loaded: list[list[Batch]]) -> Callable[[], None]:
    made = count()
    learning_rate = session.config.optimizer.learning_rate

    def call() -> None:
        _choose_kernels(session)
        for _ in range(STEPS):
            session.take_step(loaded[next(made) % len(loaded)], learning_rate)

    return call


def _choose_kernels(session: Session) -> None:
    """The body of span_pool is a choice of the process, so each variant makes its own again."""
    span_pool_bodies.choose(session.config.kernels.span_pool, session.world.device)


def _count_flops(session: Session, batches: list[Batch]) -> int:
    _choose_kernels(session)
    with FlopCounterMode(display=False) as counter:
        session.take_step(batches, 0.0)
    return counter.get_total_flops()
