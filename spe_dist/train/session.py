"""Everything a run holds while it trains, set up in the order that restoring needs.

world → data and plan → method → weights of the checkpoint, if there is one → engine → dry run of the largest shape
→ the rest of the checkpoint → log and loader.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
import torch.distributed as dist

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from data_shards.shards.manifest import Manifest
from data_shards.shards.order import Order
from data_shards.shards.reader import ShardReader
from spe_dist.batches.batch import SIZES, Batch, send
from spe_dist.batches.loader import Steps, load_steps
from spe_dist.checkpoint.background import BackgroundSaver
from spe_dist.checkpoint.random_states import seed_random_generators
from spe_dist.checkpoint.snapshot import HostBuffers, Snapshot
from spe_dist.checkpoint.store import CheckpointStore, LoadedCheckpoint
from spe_dist.checkpoint.training_state import Restored, collect, restore
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.deepspeed_engine import Engine, load_masters_into
from spe_dist.engine.world import World, start_process_group
from spe_dist.kernels import compiled as span_pool_bodies
from spe_dist.kernels import short_attention
from spe_dist.methods.method import Method
from spe_dist.methods.registry import spec_of
from spe_dist.models.saved_encoder import check_encoder_kind
from spe_dist.models.vocabulary_check import require_same_vocabulary
from spe_dist.recipe import config_values, config_yaml
from spe_dist.train.data_order import build_order, build_plan, open_reader
from spe_dist.train.dry_run import require_gpu_for_graphs
from spe_dist.train.gradients import StepGradients
from spe_dist.train.held_out import HeldOut
from spe_dist.train.metrics_accumulator import MetricsAccumulator
from spe_dist.train.rank_memory import give_back_freed_memory, peak_memory
from spe_dist.train.rehearsal import rehearse_step
from spe_dist.train.remote_sync import RemoteSync
from spe_dist.train.run_folder import (
    ENCODER,
    log_path,
    note_saved,
    prepare_run_folder,
    require_none_saved,
    start_log,
    write_dataset,
)
from spe_dist.train.run_lock import RunLock
from spe_dist.train.run_log import RunLog
from spe_dist.train.run_storage import checkpoint_storage, open_remote_sync
from spe_dist.train.start_times import StartClock, write_start
from spe_dist.train.tracking import require_tracker

LOGGER = logging.getLogger(__name__)


@dataclass
class Session:
    """A run in progress on this rank."""

    config: Config
    folder: Path
    world: World
    plan: BatchPlan
    steps: Steps
    method: Method
    engine: Engine
    saver: BackgroundSaver
    metrics: MetricsAccumulator
    log: RunLog | None  # on the first rank
    remote_sync: RemoteSync | None  # on the first rank of a run at a URL
    held_out: HeldOut | None  # if records are held out
    gradients: StepGradients | None  # if they are measured now and then
    first_step: int
    start: StartClock | None  # until the first step is made

    def __post_init__(self) -> None:
        self._host_world = self.world.with_host_group()
        self._scale = torch.zeros(len(self.method.terms), device=self.world.device)
        self._weights = torch.tensor(self.method.term_weights)
        self._host_buffers = HostBuffers(beside=self.world.device)
        self._steps_made = self.first_step

    def batches(self) -> Iterator[list[Batch]]:
        """The forwards of every step from the first one on; the time spent waiting for them is counted."""
        steps = load_steps(
            self.steps, first=self.first_step, last=self.config.train.steps, workers=self.config.data.workers
        )
        self.metrics.start_clock()
        while True:
            waited = time.perf_counter()
            batches = next(steps, None)
            self.metrics.waited += time.perf_counter() - waited
            if batches is None:
                return
            yield batches

    def take_step(self, batches: Sequence[Batch], learning_rate: float) -> None:
        """One optimizer step over all ranks, with the hooks of the method (see methods/method.py)."""
        if self.plan.pieces_per_forward is not None:
            batches = self._as_many_as_any_rank(batches)
            self.engine.begin_step(len(batches))
        if self.gradients is not None and self.gradients.is_due(self._steps_made + 1):
            self.metrics.leave_out(self.gradients.measure(self.method, self.engine, batches))
        self._begin_step(batches)
        for number, batch in enumerate(batches, start=1):
            self._forward_backward(batch, last=number == len(batches))
        self._host_buffers.wait_for_copies()
        self.engine.step(learning_rate)
        self.metrics.add_step_metrics(self.method.after_step(self.engine))
        self._steps_made += 1
        if self.start is not None:
            self._started(self.start)

    def _started(self, start: StartClock) -> None:
        start.lap("first step")
        if self.world.is_first:
            write_start(self.folder, start, first_step=self.first_step, world_size=self.world.size)
        self.start = None

    def _as_many_as_any_rank(self, batches: Sequence[Batch]) -> list[Batch]:
        """A rank's forwards and, if another has more, empty ones: each is a collective act."""
        most = int(self._host_world.all_reduce(torch.tensor(len(batches)), dist.ReduceOp.MAX))
        return [*batches, *[self._no_records] * (most - len(batches))]

    @cached_property
    def _no_records(self) -> Batch:
        nothing = self.steps.nothing()
        return nothing.pin_memory() if self.world.device.type == "cuda" else nothing

    def _begin_step(self, batches: Sequence[Batch]) -> None:
        """Learn how many items the step has over all ranks, for losses are divided by that, and how much work it is.

        All of it travels from host to host: in a collective of the device, a rank would wait for what it has launched.
        """
        method, names = self.method, (*self.method.terms, *self.method.counted)
        more = method.before_step(self.engine, self.world, self.plan, batches)
        counts = torch.tensor([more.get(name, 0) for name in names])
        counts[: len(method.terms)] += torch.stack([batch.counts for batch in batches]).sum(dim=0)
        sizes = torch.stack([batch.sizes for batch in batches]).sum(dim=0)
        digests = torch.stack([batch.digests for batch in batches]).sum(dim=0)
        step = self._host_world.all_reduce(torch.cat([counts, sizes, digests]))
        counts, sizes, digests = step.split([len(counts), len(SIZES), len(digests)])
        self._scale = send(self._weights / counts[: len(self._weights)].clamp(min=1), self.world.device)
        self.metrics.add_step(counts, sizes, digests, forwards=len(batches))

    def _forward_backward(self, batch: Batch, *, last: bool) -> None:
        """One forward and backward pass, `last` in the step; gradients and sums add up."""
        losses, metrics = self.method.forward(self.engine, batch.to(self.world.device))
        if last:
            self.method.before_last_backward(self.world, self.plan)
        self.engine.backward((losses * self._scale).sum())
        self.metrics.add_forward(losses, metrics)

    def write_metrics(self, step: int, *, learning_rate: float, while_waiting: Callable[[], None]) -> None:
        """Write the line of the steps since the last one; every rank must call this.

        Args:
            step: updates made so far.
            learning_rate: learning rate of the last of them.
            while_waiting: called after each forward of held-out records.
        """
        sums, speeds = self.metrics.close(step)
        weights = zip(self.method.term_weights, self.method.terms, strict=True)
        loss = sum(weight * sums.mean_loss(term) for weight, term in weights)
        steps_per_second = float(speeds.pop("steps_per_second"))
        metrics = {
            "step": step,
            "loss": loss,
            **self.method.report(sums),
            **self.method.report_state(),
            **(self.gradients.report() if self.gradients else {}),
            **self._held_out_report(step, while_waiting),
            "learning_rate": learning_rate,
            "gradient_norm": self.engine.grad_norm,
            "records_seen": step * self.plan.global_batch,
            "records_per_second": steps_per_second * self.plan.global_batch,
            "seconds_per_step": 1 / steps_per_second,
            "memory_gib": peak_memory(self.world.device),
            **speeds,
            "saved_step": self.saver.saved_step,
            "failed_saves": self.saver.failures,
        }
        if self.log is not None:
            self.log.write(metrics)
        if self.world.device.type == "cpu":
            give_back_freed_memory()

    def _held_out_report(self, step: int, while_waiting: Callable[[], None]) -> dict[str, float | str]:
        """Losses on the held-out records, if they are due at this step; the time does not count as training time."""
        if self.held_out is None or not self.held_out.is_due(step):
            return {}
        as_many = list if self.plan.pieces_per_forward is None else self._as_many_as_any_rank
        report = self.held_out.report(as_many, while_waiting)
        self.metrics.start_clock()
        return report

    def save(self, step: int, *, required: bool, while_waiting: Callable[[], None]) -> None:
        """Save in the background; every rank must call this.

        Args:
            step: updates made so far.
            required: wait for it.
            while_waiting: called about once a second while a save, this one or the one before, is waited for.

        Raises:
            UserError: a loss is not finite, so nothing is saved; or a save failed that must not.
        """
        started = time.perf_counter()
        self.metrics.check_finite(step)
        self.saver.save(step, lambda: self._snapshot(step), required=required, while_waiting=while_waiting)
        self.metrics.saving += time.perf_counter() - started

    def _snapshot(self, step: int) -> Snapshot:
        return collect(
            self.engine,
            self.method.state() | self.metrics.state(),
            step=step,
            elapsed_seconds=self.metrics.elapsed_seconds,
            config=config_values(self.config),
            buffers=self._host_buffers,
        )

    def close(self) -> None:
        """Wait for a save that is going on, and write out what is buffered."""
        self.saver.close()
        if self.log is not None:
            self.log.close()
        if self.remote_sync is not None:
            self.remote_sync.upload_last()


@contextmanager
def open_session(config: Config, *, make_method: Callable[..., Method] | None = None) -> Iterator[Session]:
    """Set a run up on this rank; while the context lasts, the run's folder is its own.

    Args:
        config: configuration of the run.
        make_method: in place of the one that the configuration names (benchmarks compare with another).

    Raises:
        UserError: configuration, data, encoder, run folder or checkpoint do not fit together.
    """
    start = StartClock()
    start.lap("process and imports")
    world = World.from_environment()
    if world.device.type == "cuda" and config.train.precision == "fp32":
        raise UserError("train.precision must be bf16 on CUDA: its packed attention computes in half precision only")
    require_gpu_for_graphs(config, world.device.type)
    require_tracker(config.run.track)
    plan = build_plan(config, world.size)
    reader = open_reader(config, lanes=len(plan.lanes_of_rank(world.rank)))
    order = build_order(config, reader.manifest)
    start.lap("data")
    start_process_group(world)
    start.lap("group")
    lock = RunLock(Path(config.run_folder), world)
    start.lap("lock")
    try:
        session = _set_up(config, world, plan, reader, order, make_method or spec_of(config).build, start)
        try:
            yield session
        finally:
            session.close()
    finally:
        lock.release()


def _set_up(
    config: Config,
    world: World,
    plan: BatchPlan,
    reader: ShardReader,
    order: Order,
    make_method: Callable[..., Method],
    start: StartClock,
) -> Session:
    remote_sync = open_remote_sync(config, world)
    with explain_write_errors(Path(config.run_folder)):
        start_log(log_path(Path(config.run_folder), world))
    folder = prepare_run_folder(
        config, tokenizer=reader.tokenizer_folder(), fingerprint=reader.manifest.fingerprint, world=world
    )
    if config.encoder.name_or_path:
        check_encoder_kind(config.encoder)
        require_same_vocabulary(config.encoder.name_or_path, reader.tokenizer_folder())
    seed_random_generators(config.run.seed)
    span_pool_bodies.choose(config.kernels.span_pool, world.device)
    short_attention.choose(config.kernels.attention, world.device)
    method = make_method(config, reader, device=world.device)
    gradients = StepGradients(config, method, plan, world) if config.train.gradients_every else None
    if config.compute.compile:
        method.compile()
    if world.is_first:
        with explain_write_errors(folder):
            write_atomically(folder / ENCODER, method.encoder_config.to_json_string().encode())
        write_dataset(folder, reader.manifest)
    start.lap("model")
    store = CheckpointStore(
        checkpoint_storage(config, remote_sync),
        keep_last=config.train.keep_last,
        keep_every=config.train.keep_every,
        world=world,
    )
    checkpoint = store.latest()
    if checkpoint is None:
        require_none_saved(folder, config.run_url or folder, world)
        method.begin()
    start.lap("choice of a checkpoint")
    metrics = MetricsAccumulator(method, world)
    engine = _build_engine(config, plan, method, world, checkpoint, reader.manifest, gradients)
    start.lap("engine")
    restored = _restore(checkpoint, engine, method, metrics) if checkpoint else None
    first_step = restored.step if restored else 0
    if not (restored and restored.random_states):
        seed_random_generators(config.run.seed * 1_000_003 + first_step * 1_009 + world.rank)  # dropout differs by rank
    start.lap("restore")
    saver = BackgroundSaver(
        store,
        world,
        most_failures=config.train.failed_saves,
        saved_step=first_step,
        on_saved=partial(note_saved, folder) if world.is_first else None,
    )
    log, columns, run = None, spec_of(config).columns, config.run
    if world.is_first:
        log = RunLog(folder, first_step=first_step, columns=columns, tracker=run.track, name=run.name)
        log.write_config(config_yaml(config))
    cut = None if plan.pieces_per_forward is None else partial(plan.cut, world.rank)
    steps = Steps(reader, order, method.collate, plan.forwards(world.rank), cut)
    held_out = None
    if order.held_out:
        shown = {column.metric for column in columns if column.log}
        held_out = HeldOut(reader, order, method, plan, world, metrics=shown, train=config.train)
    parts = (config, folder, world, plan, steps, method, engine, saver, metrics, log, remote_sync, held_out, gradients)
    return Session(*parts, first_step=first_step, start=start)


def _build_engine(
    config: Config,
    plan: BatchPlan,
    method: Method,
    world: World,
    checkpoint: LoadedCheckpoint | None,
    manifest: Manifest,
    gradients: StepGradients | None,
) -> Engine:
    if checkpoint is not None:
        load_masters_into(method.model, checkpoint.get)
    optimizer = config.optimizer
    engine = Engine(
        method.model,
        world=world,
        accumulation=plan.accumulation,
        stage=config.train.zero_stage,
        precision=config.train.precision,
        betas=optimizer.betas,
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        clip=optimizer.clip,
    )
    try:
        engine.initialise_optimizer(partial(rehearse_step, method, engine, plan, world, manifest, gradients))
    except torch.OutOfMemoryError as error:
        size = f"{counted(plan.lanes_per_forward, 'lane')} of {counted(plan.lane_size, 'record')}"
        setting = "--batch.lanes-per-forward"
        if plan.pieces_per_forward is not None:
            size, setting = f"up to {plan.pieces_per_forward} pieces in {size}", "--batch.pieces-per-forward"
        raise UserError(
            f"the GPU's memory is too small for a forward of {size}: lower {setting} (a step keeps its batch), or set "
            "--compute.checkpoint-activations"
        ) from error
    return engine


def _restore(checkpoint: LoadedCheckpoint, engine: Engine, method: Method, metrics: MetricsAccumulator) -> Restored:
    restored = restore(engine, checkpoint, method.state() | metrics.tensors())
    metrics.share_restored()
    metrics.seconds_before = restored.elapsed_seconds
    for skipped in checkpoint.skipped:
        LOGGER.warning("skipped the checkpoint %s: %s", skipped.name, skipped.reason)
    LOGGER.info("resumed %s", checkpoint.folder)
    return restored
