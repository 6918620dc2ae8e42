"""Fine-tuning, on one rank: epochs of batches in a seeded order, dev after each, the best epoch's weights kept.

data → labels → model and what it starts from → engine → dry run of the longest sentences → newest checkpoint
→ epochs, until dev has not become better for long → the best epoch's model on dev and test.

All that is random in an epoch (order, dropout, scheduled sampling) follows from seed and epoch, so a run that was
killed goes on from its newest checkpoint as if nothing had happened.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data_shards.annotated.annotated_sentence import AnnotatedSentence
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
from spe_dist.extraction.model.encoded_sentences import EncodedSentences, encode_sentences
from spe_dist.extraction.model.extractor_model import TASKS, ExtractorModel
from spe_dist.extraction.model.scheduled_sampling import GoldDraws, draw_gold, gold_probability
from spe_dist.extraction.predict.extractor_card import extractor_card
from spe_dist.extraction.predict.extractor_folder import calibrate, load_extractor, save_extractor
from spe_dist.extraction.predict.prediction import predict
from spe_dist.extraction.scores.diagnostics import diagnose
from spe_dist.extraction.scores.score_quality import fit_calibration
from spe_dist.extraction.scores.scoring import score
from spe_dist.extraction.scores.type_rules import TypeRules
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.data import Data, about_data, about_left_out, read_data
from spe_dist.finetuning.folder import (
    DEV,
    MODEL,
    Result,
    check_same_start,
    format_result,
    prepare_folder,
    read_result,
    seed_folder,
    selection_score,
    write_result,
    write_subset,
)
from spe_dist.finetuning.layer_rates import layer_rate
from spe_dist.finetuning.predictions import write_gold, write_predictions, write_rules
from spe_dist.finetuning.start import Start, load_start
from spe_dist.kernels import compiled as span_pool_bodies
from spe_dist.recipe import config_values, config_yaml
from spe_dist.train.run_folder import CHECKPOINTS
from spe_dist.train.run_lock import RunLock
from spe_dist.train.run_log import RunLog
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
        best_score: entity F1 + strict relation F1 then.
        seconds: of training and evaluation.
    """

    epochs: int = 0
    steps: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    seconds: float = 0.0


def finetune(config: FinetuneConfig) -> Result:
    """Fine-tune one seed and predict dev and test with its best epoch; goes on where a killed run of the seed was.

    Raises:
        UserError: whatever the person at the keyboard can mend, in one line.
    """
    world = World.from_environment()
    _check(config, world)
    lock = RunLock(seed_folder(config), world)
    try:
        prepare_folder(config)
        result = read_result(config)
        if result is None:
            result = _train_and_predict(config, world)
        LOGGER.info(format_result(result))
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
    data = read_data(config)
    start = load_start(config, data.labels, data.constraints)
    encoded = _encode(data.train, start)
    steps = config.train.epochs * _steps_per_epoch(config, encoded)
    folders = [seed_folder(seed) for seed in config.of_each_seed()]
    parameters = sum(parameter.numel() for parameter in start.model.parameters())
    return "\n".join(
        (
            *about_data(data),
            about_left_out(encoded.left_out, config.model.detector, data.constraints),
            f"{parameters:,} parameters; {start.report}",
            f"{steps} updates in {config.train.epochs} epochs, into {', '.join(map(str, folders))}",
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
            f"train.first_evaluation is {config.train.first_evaluation} and there are {config.train.epochs} epochs, "
            "counted from 0: no epoch would be evaluated"
        )


def _encode(sentences: Sequence[AnnotatedSentence], start: Start) -> EncodedSentences:
    max_pieces = start.model.sentence_encoder.max_pieces
    return encode_sentences(sentences, start.model.labels, start.word_pieces, max_pieces=max_pieces)


def _steps_per_epoch(config: FinetuneConfig, train: EncodedSentences) -> int:
    return -(-len(train) // config.train.batch_size)


def _train_and_predict(config: FinetuneConfig, world: World) -> Result:
    data = read_data(config)
    if len(data.train) < data.available:
        write_subset(config, data.chosen, data.available)
    slow_bf16 = slow_bf16_warning(config.train.precision, world.device.type)
    for line in (*about_data(data), *filter(None, [slow_bf16])):
        LOGGER.log(logging.WARNING if line.startswith("warning") else logging.INFO, line)
    start_process_group(world)
    seed_random_generators(config.run.seed)
    span_pool_bodies.choose(config.kernels.span_pool, world.device)
    start = load_start(config, data.labels, data.constraints)
    check_same_start(config, str(start.report))
    LOGGER.info("%s", start.report)
    train, dev = _encode(data.train, start), _encode(data.dev, start)
    LOGGER.info(about_left_out(train.left_out, config.model.detector, data.constraints))
    training = _Training(config, world, start, train, dev)
    try:
        while not training.finished:
            training.run_epoch()
    finally:
        training.close()
    result = _predict_with_best(config, world, data, training.progress)
    _write_card(config, data, result)
    _draw_final_scores(config, result, training.progress)
    write_result(config, result)
    shutil.rmtree(seed_folder(config) / CHECKPOINTS)
    return result


class _Training:
    """A run in progress.

    Args:
        config: of the run.
        world: of this one rank.
        start: the model before its first update.
        train: to learn from.
        dev: to choose the best epoch.
    """

    def __init__(
        self, config: FinetuneConfig, world: World, start: Start, train: EncodedSentences, dev: EncodedSentences
    ) -> None:
        self._config, self._world, self._start, self._train, self._dev = config, world, start, train, dev
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
        self._log = RunLog(self._folder, first_step=self.progress.steps)
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
            if selection_score(scores) > best_score:
                best_epoch, best_score = epoch + 1, selection_score(scores)
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
        seed, sampling = self._config.run.seed, self._config.sampling
        seed_random_generators(seed * 1_000_003 + 1 + epoch)  # dropout
        gold = draw_gold(len(self._train), epoch, seed=seed, gold_epochs=sampling.gold_epochs, k=sampling.k)
        losses = torch.zeros(len(TASKS), device=self._world.device)
        correct, counts = torch.zeros_like(losses, dtype=torch.int64), torch.zeros(len(TASKS), dtype=torch.int64)
        self._start.model.train()
        step = self.progress.steps
        for rows in self._batches(epoch):
            result = self._engine.forward(self._train.batch(rows).to(self._world.device), gold.take(rows))
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
            **{f"{task}_loss": mean for task, mean in zip(TASKS, means, strict=True)},
            **{f"{task}_accuracy": accuracy for task, accuracy in zip(TASKS, accuracies, strict=True)},
            "gold_probability": gold_probability(epoch, gold_epochs=sampling.gold_epochs, k=sampling.k),
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
        predicted = predict(model, self._dev, device=self._world.device)
        return _micro_f1(self._dev.sentences, predicted)

    def _keep_weights(self) -> None:
        state = self._engine.read_state(lambda _, tensor: tensor.detach().to("cpu", copy=True))
        weights = {name.removesuffix(".master"): tensor for name, tensor in state if name.endswith(".master")}
        start = self._start
        save_extractor(self._folder / MODEL, start.model, start.description, start.word_pieces, weights)

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
        gold = GoldDraws(np.ones(len(rows), dtype=bool), np.ones(len(rows), dtype=bool))
        result = self._engine.forward(self._train.batch(rows).to(self._world.device), gold)
        self._engine.backward(result.losses.sum())


def _draw_final_scores(config: FinetuneConfig, result: Result, progress: Progress) -> None:
    """Scores of the best epoch, as points of TensorBoard beside the curves of dev."""
    log = RunLog(seed_folder(config), first_step=progress.steps)
    for name, scores in ((DEV, result.dev), ("test", result.test)):
        log.draw(progress.steps, {f"best_{name}_{measure}": value for measure, value in (scores or {}).items()})
    log.close()


def _build_engine(config: FinetuneConfig, world: World, model: ExtractorModel) -> Engine:
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


def _predict_with_best(config: FinetuneConfig, world: World, data: Data, progress: Progress) -> Result:
    """Predict dev and test with the weights that were kept, in the precision that `spe predict` computes in here.

    Scores are calibrated on dev in between.
    """
    folder, run = seed_folder(config) / MODEL, Path(config.run_folder)
    model, word_pieces = load_extractor(folder)
    model = model.to(world.device, torch.bfloat16 if world.device.type == "cuda" else torch.float32)

    def find(sentences: Sequence[AnnotatedSentence]) -> list[AnnotatedSentence]:
        encoded = encode_sentences(sentences, model.labels, word_pieces, max_pieces=model.sentence_encoder.max_pieces)
        return predict(model, encoded, device=world.device)

    model.calibration = fit_calibration(data.dev, find(data.dev))
    calibrate(folder, model.calibration)
    rules = TypeRules.of(data.train)
    scores: dict[str, dict[str, float]] = {}
    diagnostics: dict[str, dict[str, float | None]] = {}
    for name, place, sentences in ((DEV, run / DEV, data.dev), ("test", run, data.test)):
        if sentences is not None:
            predicted = find(sentences)
            write_gold(place, sentences)
            write_predictions(place, config.run.seed, predicted)
            write_rules(place, config.run.seed, rules)
            scores[name] = _micro_f1(sentences, predicted)
            diagnostics[name] = diagnose(sentences, predicted, rules)
    return Result(config.run.seed, progress.epochs, progress.best_epoch, scores[DEV], scores.get("test"), diagnostics)


def _write_card(config: FinetuneConfig, data: Data, result: Result) -> None:
    parts = {"train": data.train, DEV: data.dev, "test": data.test}
    card = extractor_card(config, data.labels, parts, result, package_versions())
    write_atomically(seed_folder(config) / MODEL / MODEL_CARD, card.encode())


def _micro_f1(gold: Sequence[AnnotatedSentence], predicted: Sequence[AnnotatedSentence]) -> dict[str, float]:
    return {measure: scores.micro.f1 for measure, scores in score(gold, predicted).items()}
