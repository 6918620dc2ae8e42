"""Whole training steps of one process: real records, real optimizer; loading and logging left out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

from torch.utils.flop_counter import FlopCounterMode

from spe_dist.batches.batch import Batch
from spe_dist.benchmarks.masked_language_model import Mlm
from spe_dist.benchmarks.timing import Timed, take_turns
from spe_dist.config import Config, KernelsConfig
from spe_dist.kernels import compiled as span_pool_bodies
from spe_dist.kernels import short_attention
from spe_dist.methods.method import Method
from spe_dist.methods.registry import spec_of
from spe_dist.train.session import Session, open_session

STEPS = 2  # of a repeat
Variant = tuple[Config, Callable[..., Method]]


def measure_packing(config: Config, *, repeats: int) -> list[Timed]:
    """The step as the papers' programs compute it, with padding and a padded span CNN, and ours."""
    padded = replace(
        config, compute=replace(config.compute, packed=False), kernels=KernelsConfig(span_pool="reference")
    )
    pooled = replace(config, compute=replace(config.compute, packed=False))
    method = spec_of(config).build
    variants: dict[str, Variant] = {
        "padding, reference span_pool": (padded, method),
        "padding, compiled span_pool": (pooled, method),
        "packed, compiled span_pool": (config, method),
    }
    return measure_steps("packing", variants, repeats=repeats)


def measure_objectives(config: Config, *, repeats: int) -> list[Timed]:
    """A step of masked language modelling on one sequence a record, and of the method on the same records."""
    method = spec_of(config)
    return measure_steps(
        "objectives", {"MLM only": (config, Mlm), method.title: (config, method.build)}, repeats=repeats
    )


def measure_methods(base: Config, other: Config, *, repeats: int) -> list[Timed]:
    """A step of two methods on the same records; how much more time the other takes for how many more operations."""
    names = [spec_of(config).title for config in (base, other)]
    variants = {name: (config, spec_of(config).build) for name, config in zip(names, (base, other), strict=True)}
    base_row, row = measure_steps("methods", variants, repeats=repeats)
    row.notes[f"times {names[0]}'s time"] = row.median / base_row.median
    per_step = "TFLOP per step"
    row.notes[f"times {names[0]}'s TFLOP"] = float(row.notes[per_step]) / float(base_row.notes[per_step])
    return [base_row, row]


def measure_steps(case: str, variants: Mapping[str, Variant], *, repeats: int) -> list[Timed]:
    """Steps of each variant in turn, over the same records; floating-point operations of a step in the notes."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sessions = {
            name: stack.enter_context(opened(config, make_method, Path(folder) / str(index)))
            for index, (name, (config, make_method)) in enumerate(variants.items())
        }
        batches = {name: load_batches(session, STEPS * (repeats + 1)) for name, session in sessions.items()}
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
def opened(config: Config, make_method: Callable[..., Method], folder: Path) -> Iterator[Session]:
    """A session whose run is in a folder, with what the method keeps beside the model at its full size."""
    config = replace(config, run=replace(config.run, folder=str(folder)))
    with open_session(config, make_method=make_method) as session:
        session.method.prefill(None)  # full, as it is in all but a run's first steps
        yield session


def load_batches(session: Session, steps: int) -> list[list[Batch]]:
    """The batches of the first steps.

    Raises:
        UserError: a shard is missing or damaged.
    """
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
    """Kernels are a choice of the process, so each variant makes its own again."""
    span_pool_bodies.choose(session.config.kernels.span_pool, session.world.device)
    short_attention.choose(session.config.kernels.attention, session.world.device)


def _count_flops(session: Session, batches: list[Batch]) -> int:
    _choose_kernels(session)
    with FlopCounterMode(display=False) as counter:
        session.take_step(batches, 0.0)
    return counter.get_total_flops()
