"""What the training loop asks of a method, with defaults for all that a method need not care about.

The hooks of a step, in the order in which `Session.take_step` calls them:

    before_step            before the step's first forward: may communicate, may count more items
    forward                of each forward's batch: losses and metrics
    before_last_backward   after the last forward: may begin an exchange that the backward pass hides
    after_step             after the optimizer's step

Beside them, every so many steps, `evaluate` looks at held-out records, and a copy of the method (`apart`) goes through
the first two of these hooks, to measure the gradients of a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from data_shards.shards.reader import ShardReader
from spe_dist.batches.loader import Collate
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.metric_sums import MetricSums
from spe_dist.methods.model_flops import encoder_flops
from spe_dist.methods.workload import Workload
from spe_dist.models.saved_encoder import build_sentence_encoder, resolve_encoder_config
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.objectives.masked_language_modelling import MaskedLanguageModelling

if TYPE_CHECKING:  # DeepSpeed takes seconds to import; showing and exporting need none of it
    from spe_dist.engine.deepspeed_engine import Engine


class Method:
    """One run's method: its batches, its model, and what it keeps beside the model.

    A subclass sets `collate`, `model` and the names and weights of its terms. The model's `encoder` holds the parts
    that an export keeps, under the names that `SpanPairModel` gives them; its `sentence_encoder` at least.

    Args:
        config: the run.
        reader: reader of its dataset.
    """

    collate: Collate
    model: Any  # a module
    terms: Sequence[str]  # of the loss; the forwards' sums of each are divided by its number of items in the step
    term_weights: Sequence[float]
    metrics: Sequence[str] = ()  # sums over the items of a forward; NAME_found of a term makes its accuracy
    step_metrics: Sequence[str] = ()  # sums over the records of a step, from `after_step`
    added_pieces = 0  # that a sequence may have beyond those of its record
    counted: Sequence[str] = ()  # what `before_step` counts beside the items of terms, for `model_flops`

    def __init__(self, config: Config, reader: ShardReader) -> None:
        manifest = reader.manifest
        self.config = config
        self.encoder_config = resolve_encoder_config(
            config.encoder,
            vocab_size=manifest.tokenizer.vocab_size,
            max_pieces=manifest.max_pieces + self.added_pieces,
        )

    def new_encoder(self) -> SentenceEncoder:
        """The run's sentence encoder, with the weights that it begins with."""
        return build_sentence_encoder(self.config.encoder, self.config.compute, self.encoder_config)

    def begin(self) -> None:
        """Called where a run begins, not where it goes on: take the checkpoint's MLM head, new where it has none."""
        if isinstance(mlm := getattr(self.model, "mlm", None), MaskedLanguageModelling):
            mlm.start_from(self.config.encoder.name_or_path)

    def compile(self) -> None:
        """Run the sentence encoder's layers through torch.compile; called once the method is built."""
        self.model.encoder.sentence_encoder.compile_layers(graph_pieces=self.config.compute.graph_pieces)

    def before_step(self, engine: Engine, world: World, plan: BatchPlan, batches: Sequence[Any]) -> Mapping[str, int]:
        """Called on every rank with its forwards' batches, on the host, before any of them is computed.

        Returns:
            What this rank counts beside the batches' own counts, by name of `terms` and `counted`; added over ranks.
        """
        return {}

    def forward(self, engine: Engine, batch: Any) -> tuple[Tensor, Tensor]:
        """Sums of losses [terms], and of metrics [metrics] without gradient, of a batch on the device."""
        return engine.forward(batch)

    def before_last_backward(self, world: World, plan: BatchPlan) -> None:
        """Called once a step, between its last forward and the backward pass of that."""

    def after_step(self, engine: Engine) -> Tensor:
        """Called when the weights have moved; sums over this rank's records, [step_metrics]."""
        return torch.zeros(0)

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Look at held-out records, without gradient and dropout; every rank calls this equally often.

        Nothing that training depends on may change, and nothing may depend on which records share a forward.

        Args:
            batch: on the device.

        Returns:
            Sums of losses [terms] and metrics [metrics + step_metrics], and the number of items of each term [terms].
        """
        losses, metrics, *_ = self.model(batch)
        return losses, nn.functional.pad(metrics, (0, len(self.step_metrics))), batch.counts

    def apart(self, model: Any) -> Self:
        """This method with another model of the same kind, whose steps leave alone what this one keeps.

        Of what a step changes, it has its own: attributes that are lists or tensors. A method that changes others
        between `before_step` and `forward` must override this.

        Args:
            model: a module.
        """
        other = copy(self)
        other.model = model
        for name, value in vars(self).items():
            if isinstance(value, list):
                setattr(other, name, list(value))
            elif isinstance(value, Tensor):
                setattr(other, name, value.clone())
        return other

    def rehearse(self, engine: Engine, batch: Any) -> Tensor:
        """Losses [terms] of a forward that takes as much memory as any will, and leaves nothing behind."""
        return engine.forward(batch)[0]

    def prefill(self, batches: Iterator[Any] | None) -> None:
        """For benchmarks: fill what is kept besides the model (such as queues) as it is after the first steps.

        Args:
            batches: batches of other steps, of which as many are taken as needed; None: fill with random numbers.
        """

    def state(self) -> dict[str, Tensor]:
        """Live tensors that a checkpoint holds beyond the engine's, by name; whole and equal on all ranks.

        Those on a GPU may change in `after_step` only: a step may begin while they are still being copied.
        """
        return {}

    def model_flops(self, workload: Workload) -> int:
        """What the model has to compute in some steps of all ranks; by default the sentence encoder's part of it."""
        return 3 * sum(encoder_flops(self.encoder_config, workload).values())

    def report(self, sums: MetricSums) -> dict[str, float | str]:
        """What to log of sums over some steps: loss, and accuracy if it is measured, of each term that has a weight."""
        report: dict[str, float | str] = {}
        for term, weight in zip(self.terms, self.term_weights, strict=True):
            if weight:
                report[f"{term}_loss"] = sums.mean_loss(term)
                if f"{term}_found" in self.metrics:
                    report[f"{term}_accuracy"] = sums.share([f"{term}_found"], [term])
        return report

    def report_state(self) -> dict[str, float | str]:
        """What else to log: of what is kept beside the model, and of questions asked of it. Every rank calls this."""
        return {}
