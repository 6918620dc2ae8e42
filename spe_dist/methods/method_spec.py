"""What a method says of itself: everything that the rest of the program knows about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from spe_dist.config import Config
from spe_dist.methods.run_summary import ConfigWarning, RunSummary

if TYPE_CHECKING:  # a recipe is read without waiting for torch
    from torch import Tensor, nn
    from transformers import PretrainedConfig

    from data_shards.shards.manifest import Manifest
    from data_shards.shards.reader import ShardReader
    from data_shards.shards.record import Records
    from spe_dist.batches.loader import Collate
    from spe_dist.engine.batch_plan import BatchPlan
    from spe_dist.engine.zero_footprint import Transfer
    from spe_dist.methods.method import Method


@dataclass(frozen=True)
class Column:
    """A metric for people.

    Args:
        metric: its name in metrics.jsonl.
        heading: in the table of `spe report`.
        log: format of its part of a log line, for losses and accuracies of objectives; None leaves it out. One that
            begins with the value belongs to the column before it.
    """

    metric: str
    heading: str
    log: str | None = None


@dataclass(frozen=True)
class Panel:
    """Two pictures of `spe report` beside each other, each of one quantity.

    Args:
        title: above both.
        left: metrics of the left one; a heading among the columns is a metric's name where there are several.
        right: of the right one.
        left_label: the quantity of the left one.
        right_label: of the right one.
    """

    title: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    left_label: str = "loss"
    right_label: str = "accuracy"


def on_use(path: str) -> Callable[..., Any]:
    """The function that "package.module:name" names, imported when it is called: reading a recipe needs no torch."""

    def call(*args: Any, **kwargs: Any) -> Any:
        module, _, name = path.partition(":")
        return getattr(import_module(module), name)(*args, **kwargs)

    return call


def _no_warnings(config: Any) -> list[ConfigWarning]:
    return []


def _any_data(reader: ShardReader) -> None:
    pass


def _nothing_kept(config: Any, model: Any) -> dict[str, int]:
    return {}


def _losses_of(config: Any, model: Any, batch: Any) -> Tensor:
    losses: Tensor = model(batch)[0]
    return losses


def _nothing_sent(config: Any, model: Any, plan: BatchPlan) -> list[Transfer]:
    return []


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """One method. Functions of a configuration get one of the method's own class.

    Args:
        title: for people, "SPE".
        config: class of its settings.
        build: from the configuration, the reader of its dataset and `device=`.
        build_collate: from the configuration and the reader.
        new_model: with new weights, from the configuration, the sentence encoder's and the manifest, if there is one.
        summarize: which parts a run trains, from the configuration and the sentence encoder's.
        sequences: which sequences the sentence encoder sees of each record, in words: "each record twice".
        describe: one record in words for `spe shards show`, from the collate, the record, step, lane and a function
            that gives the text of a piece; None: only its entities are shown.
        columns: columns of log lines and of the table of `spe report`, in their order.
        panels: panels of `spe report`.
        find_warnings: settings that can be trained but will hardly do what they say.
        require_data: raises a UserError if a dataset lacks what the method learns from.
        counted: names of what ranks add up in a step: items of the loss's terms, and what `before_step` counts.
        bytes_beside: what a rank keeps beside the trained weights, by part, from the configuration and the model.
        bytes_made_again: what a rank keeps beside these and a checkpoint does not hold, likewise.
        transfers: what ranks send in a step beside gradients and counts, from these two and the plan.
        try_forward: losses of a batch as late in a run as its queues are full, from the configuration, the model
            and the batch.
    """

    title: str
    config: type[Config]
    build: Callable[..., Method]
    build_collate: Callable[[Any, ShardReader], Collate]
    new_model: Callable[[Any, PretrainedConfig, Manifest | None], nn.Module]
    summarize: Callable[[Any, PretrainedConfig], RunSummary]
    sequences: Callable[[Any], str]
    describe: Callable[[Any, Records, int, int, Callable[[int], str]], str] | None = None
    columns: Sequence[Column] = ()
    panels: Sequence[Panel] = ()
    find_warnings: Callable[[Any], list[ConfigWarning]] = _no_warnings
    require_data: Callable[[ShardReader], None] = _any_data
    counted: Sequence[str] = ()
    bytes_beside: Callable[[Any, Any], dict[str, int]] = _nothing_kept
    bytes_made_again: Callable[[Any, Any], dict[str, int]] = _nothing_kept
    transfers: Callable[[Any, Any, BatchPlan], list[Transfer]] = _nothing_sent
    try_forward: Callable[[Any, Any, Any], Tensor] = _losses_of

    def model_without_weights(self, config: Config, encoder: PretrainedConfig, manifest: Manifest | None) -> nn.Module:
        """What a configuration trains, on the meta device; arguments as of `new_model`."""
        import torch

        with torch.device("meta"):
            return self.new_model(config, encoder, manifest)
