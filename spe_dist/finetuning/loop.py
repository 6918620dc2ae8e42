"""Fine-tuning, on one rank: epochs of batches in a seeded order, dev after each, the best epoch's weights kept.

data → labels → the task's model and what it starts from → engine → dry run of the longest sentences → newest checkpoint
→ epochs, until dev has not become better for long → the best epoch's model on dev and test.

All that is random in an epoch (order, dropout, scheduled sampling) follows from seed and epoch, so a run that was
killed goes on from its newest checkpoint as if nothing had happened.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_shards.counted import counted
from data_shards.errors import PassingError, UserError
from data_shards.files import require_writable, write_atomically
from spe_dist.checkpoint.random_states import seed_random_generators
from spe_dist.checkpoint.snapshot import HostBuffers
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.checkpoint.training_state import collect, restore
from spe_dist.engine.deepspeed_engine import Engine, load_masters_into
from spe_dist.engine.schedule import learning_rate
from spe_dist.engine.slow_bf16 import slow_bf16_warning
from spe_dist.engine.world import World, start_process_group
from spe_dist.export.export_format import MODEL_CARD
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.data import Data, about_data, read_data
from spe_dist.finetuning.folder import (
    DEV,
    MODEL,
    RESULT,
    Result,
    check_same_start,
    format_result,
    prepare_folder,
    read_result,
    seed_folder,
    write_result,
    write_subset,
)
from spe_dist.finetuning.layer_rates import layer_rate
from spe_dist.finetuning.predictions import write_gold, write_predictions
from spe_dist.finetuning.start import Start, load_start
from spe_dist.finetuning.task import Rows, Task
from spe_dist.kernels import compiled as span_pool_bodies
from spe_dist.kernels import short_attention
from spe_dist.recipe import config_values, config_yaml
from spe_dist.train.run_folder import CHECKPOINTS
from spe_dist.train.run_lock import RunLock
from spe_dist.train.run_log import RunLog
from spe_dist.train.tracking import require_tracker
from spe_dist.versions import package_versions

LOGGER = logging.getLogger(__name__)

_ORDER = 6  # keeps these random numbers apart from the ones of other purposes


@dataclass(frozen=True)
class Progress:
    """How far a run is; kept in its checkpoints.

    Args:
        epochs: finished.
        steps: updates made.
        best_epoch: finished epochs when dev was best; 0 before the first evaluation.
        best_score: the task's selection score then.
        seconds: seconds of training and evaluation.
    """

    epochs: int = 0
    steps: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    seconds: float = 0.0


def finetune(config: FinetuneConfig) -> Result:
    """Fine-tune one seed and predict dev and test with its best epoch; goes on where a killed run of the seed was.

    Raises:
        UserError: whatever the person at the keyboard can fix, in one line.
    """
    world = World.from_environment()
    _check(config, world)
    lock = RunLock(seed_folder(config), world)
    try:
        prepare_folder(config)
        result = read_result(config)
        if result is None:
            result = _train_and_predict(config.build_task(), world)
        LOGGER.info(format_result(result))
        LOGGER.info("these scores are also in %s and TensorBoard, under best/", RESULT)
        return result
    except Exception:
        LOGGER.exception("the run ends here")
        raise
    finally:
        lock.release()


def describe(config: FinetuneConfig) -> str:
    """What a run would read, load and do, without doing it.

    Raises:
        UserError: what would stop the run.
    """
    _check(config, World.from_environment())
    require_writable(Path(config.run_folder))
    task = config.build_task()
    data = read_data(task)
    start = load_start(task, data.description)
    rows = task.encode(data.train, start.model, start.word_pieces)
    steps = config.train.epochs * _steps_per_epoch(config, rows)
    folders = [seed_folder(seed) for seed in config.of_each_seed()]
    parameters = sum(parameter.numel() for parameter in start.model.parameters())
    return "\n".join(
        (
            *about_data(task, data),
            *task.about_rows(rows, data.description),
            f"{parameters:,} parameters; {start.report}",
            f"{counted(steps, 'update')} in {counted(config.train.epochs, 'epoch')}, into "
            f"{', '.join(map(str, folders))}",
        )
    )


def epoch_order(rows: int, epoch: int, *, seed: int) -> NDArray[np.int64]:
    """The order in which an epoch, counted from 0, sees the rows of the training data, [rows]."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_ORDER, seed, epoch))))
    return generator.permutation(rows)


def _check(config: FinetuneConfig, world: World) -> None:
    if world.size > 1:
        raise UserError(f"fine-tuning runs on one rank, not on {world.size}: start it without torchrun")
    if world.device.type == "cuda" and config.train.precision == "fp32":
        raise UserError("train.precision must be bf16 on CUDA: its packed attention computes in half precision only")
    if config.train.first_evaluation >= config.train.epochs:
        raise UserError(
            f"train.first_evaluation is {config.train.first_evaluation}, counted from 0, and train.epochs "
            f"{config.train.epochs}: no epoch would be evaluated"
        )
    require_tracker(config.run.track)
    config.check()


def _steps_per_epoch(config: FinetuneConfig, train: Rows) -> int:
    return -(-len(train) // config.train.batch_size)


def _train_and_predict(task: Task[Any, Any], world: World) -> Result:
    config = task.config
    data = read_data(task)
    if len(data.train) < data.available:
        write_subset(config, data.chosen, data.available, task.scoring.items)
    slow_bf16 = slow_bf16_warning(config.train.precision, world.device.type)
    for line in (*about_data(task, data), *filter(None, [slow_bf16])):
        LOGGER.log(logging.WARNING if line.startswith("warning") else logging.INFO, line)
    start_process_group(world)
    seed_random_generators(config.run.seed)
    span_pool_bodies.choose(config.kernels.span_pool, world.device)
    short_attention.choose(config.kernels.attention, world.device)
    start = load_start(task, data.description)
    check_same_start(config, str(start.report))
    LOGGER.info("%s", start.report)
    train, dev = (task.encode(items, start.model, start.word_pieces) for items in (data.train, data.dev))
    for line in task.about_rows(train, data.description):
        LOGGER.info(line)
    training = _Training(task, world, start, train, dev, data.dev)
    try:
        while not training.finished:
            training.run_epoch()
    finally:
        training.close()
    result = replace(_predict_with_best(task, world, data, training.progress), start=start.report.origin)
    card = task.card(data, result, package_versions())
    write_atomically(seed_folder(config) / MODEL / MODEL_CARD, card.encode())
    _draw_final_scores(config, result, training.progress)
    write_result(config, result)
    shutil.rmtree(seed_folder(config) / CHECKPOINTS)
    return result


class _Training:
    """A run in progress.

    Args:
        task: with the settings of the run.
        world: world of this one rank.
        start: the model before its first update.
        train: to learn from.
        dev: to choose the best epoch.
        gold: the items of dev.
    """

    def __init__(
        self, task: Task[Any, Any], world: World, start: Start, train: Rows, dev: Rows, gold: Sequence[Any]
    ) -> None:
        config = task.config
        self._task, self._config, self._world, self._start = task, config, world, start
        self._train, self._dev, self._gold = train, dev, gold
        self._folder = seed_folder(config)
        self._steps = config.train.epochs * _steps_per_epoch(config, train)
        self._store = CheckpointStore(self._folder / CHECKPOINTS, keep_last=1, keep_every=0, world=world)
        self._buffers = HostBuffers()
        checkpoint = self._store.latest()
        if checkpoint is not None:
            load_masters_into(start.model, checkpoint.get)
        self._engine = _build_engine(config, world, start.model)
        self._engine.initialise_optimizer(self._run_longest_batch)
        self.progress = Progress()
        if checkpoint is not None:
            restore(self._engine, checkpoint, {})
            self.progress = Progress(**checkpoint.metadata["progress"])
            LOGGER.info("resumed %s", checkpoint.folder)
        name = f"{config.run.name}-seed-{config.run.seed}"
        self._log = RunLog(self._folder, first_step=self.progress.steps, tracker=config.run.track, name=name)
        self._log.write_config(config_yaml(config))

    @property
    def finished(self) -> bool:
        """Whether all epochs are over, or dev has not become better for too long since something was found in it."""
        train, progress = self._config.train, self.progress
        waited = progress.epochs - progress.best_epoch if progress.best_score > 0 else 0
        return progress.epochs == train.epochs or waited > train.patience

    def run_epoch(self) -> None:
        """Train an epoch, evaluate, keep the weights if they are the best, save."""
        began, before = time.perf_counter(), self.progress
        epoch, train = before.epochs, self._config.train
        metrics = self._train_epoch(epoch)
        best_epoch, best_score = before.best_epoch, before.best_score
        if epoch >= train.first_evaluation:
            scores = self._evaluate()
            metrics |= {f"dev_{measure}": value for measure, value in scores.items()}
            if (selection := self._task.scoring.selection_score(scores)) > best_score:
                best_epoch, best_score = epoch + 1, selection
                self._keep_weights()
        steps = before.steps + _steps_per_epoch(self._config, self._train)
        seconds = before.seconds + time.perf_counter() - began
        self.progress = Progress(epoch + 1, steps, best_epoch, best_score, seconds)
        self._log.write({"step": steps, "epoch": epoch + 1, **metrics, "elapsed_seconds": seconds})
        if train.checkpoint_every and (epoch + 1) % train.checkpoint_every == 0:
            self._save()

    def close(self) -> None:
        """Write out what is buffered."""
        self._log.close()

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        names = self._task.losses
        seed_random_generators(self._config.run.seed * 1_000_003 + 1 + epoch)  # dropout
        batch = self._task.batches(self._train, epoch, self._world.device)
        losses = torch.zeros(len(names), device=self._world.device)
        correct, counts = torch.zeros_like(losses, dtype=torch.int64), torch.zeros(len(names), dtype=torch.int64)
        self._start.model.train()
        step = self.progress.steps
        for rows in self._batches(epoch):
            result = self._engine.forward(*batch(rows))
            self._engine.backward(result.losses.sum())
            rate = self._learning_rate(step)
            try:
                self._engine.step(rate)
            except PassingError as error:  # a run of one rank does the same again: trying again does not help
                raise UserError(
                    f"the gradient is not finite in epoch {epoch + 1}, at step {step}: give this fine-tuning another "
                    f"run.name and a lower optimizer.learning_rate than {self._config.optimizer.learning_rate:g}"
                ) from error
            losses, correct, counts = losses + result.losses.detach(), correct + result.correct, counts + result.counts
            step += 1
        means = (losses.cpu() / (step - self.progress.steps)).tolist()
        accuracies = (correct.cpu() / counts.clamp(min=1)).tolist()
        return {
            "loss": sum(means),
            **{f"{name}_loss": mean for name, mean in zip(names, means, strict=True)},
            **{f"{name}_accuracy": accuracy for name, accuracy in zip(names, accuracies, strict=True)},
            **self._task.epoch_metrics(epoch),
            "learning_rate": rate,
            "gradient_norm": self._engine.grad_norm,
        }

    def _batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        order, size = epoch_order(len(self._train), epoch, seed=self._config.run.seed), self._config.train.batch_size
        for first in range(0, len(order), size):
            yield order[first : first + size]

    def _learning_rate(self, step: int) -> float:
        optimizer = self._config.optimizer
        warmup_steps = round(optimizer.warmup_share * self._steps)
        return learning_rate(step, peak=optimizer.learning_rate, warmup_steps=warmup_steps, steps=self._steps)

    def _evaluate(self) -> dict[str, float]:
        model = self._start.model.eval()  # the engine's module is this one
        predicted = self._task.predict(model, self._dev, self._world.device)
        return self._task.scoring.scores(self._gold, self._task.decide(self._gold, predicted))

    def _keep_weights(self) -> None:
        state = self._engine.read_state(lambda _, tensor: tensor.detach().to("cpu", copy=True))
        weights = {name.removesuffix(".master"): tensor for name, tensor in state if name.endswith(".master")}
        start = self._start
        self._task.save(self._folder / MODEL, start.model, start.description, start.word_pieces, weights)

    def _save(self) -> None:
        snapshot = collect(
            self._engine,
            {},
            step=self.progress.steps,
            elapsed_seconds=self.progress.seconds,
            config=config_values(self._config),
            buffers=self._buffers,
        )
        snapshot.wait()
        metadata = snapshot.metadata | {"progress": asdict(self.progress)}
        self._store.save(self.progress.steps, snapshot.tensors, metadata)

    def _run_longest_batch(self) -> None:
        rows = np.argsort(-self._train.num_pieces, kind="stable")[: self._config.train.batch_size]
        result = self._engine.forward(*self._task.batches(self._train, None, self._world.device)(rows))
        self._engine.backward(result.losses.sum())


def _draw_final_scores(config: FinetuneConfig, result: Result, progress: Progress) -> None:
    """Scores of the best epoch, as points of TensorBoard beside the curves of dev."""
    log = RunLog(seed_folder(config), first_step=progress.steps)
    for name, scores in ((DEV, result.dev), ("test", result.test)):
        log.draw(progress.steps, {f"best_{name}_{measure}": value for measure, value in (scores or {}).items()})
    log.close()


def _build_engine(config: FinetuneConfig, world: World, model: Any) -> Engine:
    optimizer = config.optimizer
    return Engine(
        model,
        world=world,
        accumulation=1,
        stage=1,
        precision=config.train.precision,
        betas=optimizer.betas,
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        clip=optimizer.clip,
        rate_of=partial(
            layer_rate,
            layers=model.sentence_encoder.model.config.num_hidden_layers,
            decay=optimizer.layer_decay,
            embeddings=optimizer.embeddings,
            heads=optimizer.heads,
        ),
    )


def _predict_with_best(task: Task[Any, Any], world: World, data: Data[Any, Any], progress: Progress) -> Result:
    """Predict dev and test with the weights that were kept, in the precision that `spe predict` computes in here."""
    config = task.config
    folder, run, seed = seed_folder(config) / MODEL, Path(config.run_folder), config.run.seed
    model, word_pieces = task.load(folder)
    model = model.to(world.device, torch.bfloat16 if world.device.type == "cuda" else torch.float32)

    def find(items: Sequence[Any]) -> list[Any]:
        return task.predict(model, task.encode(items, model, word_pieces), world.device)

    task.finish(folder, model, data.dev, find)
    scores: dict[str, dict[str, float]] = {}
    diagnostics: dict[str, dict[str, float | None]] = {}
    for name, place, items in ((DEV, run / DEV, data.dev), ("test", run, data.test)):
        if items is not None:
            predicted = find(items)
            write_gold(task.scoring, place, items)
            write_predictions(task.scoring, place, seed, predicted)
            task.keep(place, seed, data.train)
            scores[name] = task.scoring.scores(items, predicted)
            diagnostics[name] = task.diagnose(items, predicted, data.train)
    return Result(seed, progress.epochs, progress.best_epoch, scores[DEV], scores.get("test"), diagnostics)
