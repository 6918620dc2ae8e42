"""`spe plan`: what a recipe would need, and how fast it would be, from 1 to 4,096 GPUs. Starts nothing.

Settings of the recipe are overridden as in `spe pretrain` (`--encoder.name-or-path null`: a new encoder of the sizes
given, which are BERT-base's by default).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from launcher.arguments import parse_arguments
from launcher.pretrain import split_recipe
from spe_dist.config import Config
from spe_dist.methods.costs import RecordSizes, costs_of
from spe_dist.models.sentence_encoder import resolve_encoder_config
from spe_dist.recipe import load_recipe
from spe_dist.train.plan import open_reader
from spe_dist.train.scale_plan import ClusterDescription, Prediction, ScalePlan, plan_scaling

_MAX_PIECES = 128  # what shards are built with, if there are none to ask


ConfigOfMethod = TypeVar("ConfigOfMethod", bound=Config)


@dataclass(frozen=True)
class Plan(Generic[ConfigOfMethod]):
    """What is asked for."""

    machines: Annotated[ClusterDescription, tyro.conf.arg(name="")]
    recipe: Annotated[ConfigOfMethod, tyro.conf.arg(name="")]
    pieces_per_record: float | None = None
    """Mean pieces of a record, without [CLS] and [SEP]; asks no shards."""
    vocabulary: int = 28_996
    """Pieces of a new encoder's vocabulary, if no shards are asked."""
    out: Path | None = None
    """Folder for NAME_plan.json and NAME_plan.md, NAME being the run's."""


def main(argv: list[str]) -> None:
    """Run `spe plan` with the arguments after it.

    Raises:
        UserError: recipe, shards, encoder or cluster do not say enough.
    """
    path, rest = split_recipe(argv)
    recipe = load_recipe(path)
    default = Plan(ClusterDescription(), recipe)
    generic: Any = Plan
    command: Plan = parse_arguments(generic[type(recipe)], rest, default=default, prog="spe plan", description=__doc__)
    plan = make_plan(command)
    text = plan_markdown(command, plan)
    print(text)
    if command.out is not None:
        _write(command, plan, text)


def make_plan(command: Plan) -> ScalePlan:
    """Look up what shards and encoder say, and predict.

    Raises:
        UserError: they cannot be found; says what to give instead.
    """
    config, manifest = command.recipe, None
    if command.pieces_per_record is not None:
        if command.pieces_per_record <= 0:
            raise UserError(f"--pieces-per-record {command.pieces_per_record:g}: must be more than 0 (20 is usual)")
        sizes, vocabulary, longest = RecordSizes.guessed(command.pieces_per_record), command.vocabulary, _MAX_PIECES
    else:
        try:
            manifest = open_reader(config).manifest
        except UserError as error:
            raise UserError(f"{error}; without shards, say --pieces-per-record (20 is usual)") from error
        sizes, longest = RecordSizes.of(manifest.statistics), manifest.max_pieces
        vocabulary = manifest.tokenizer.vocab_size
    known = 1 if config.encoder.name_or_path and command.pieces_per_record is not None else vocabulary
    try:
        encoder = resolve_encoder_config(config.encoder, vocab_size=known, max_pieces=longest)
    except UserError as error:
        raise UserError(f"{error}; give a folder, or sizes with --encoder.name-or-path null") from error
    return plan_scaling(config, encoder, costs_of(config, encoder, manifest), sizes, command.machines)


def plan_markdown(command: Plan, plan: ScalePlan) -> str:
    """The plan for people, readable in a terminal too."""
    config, recipe, machines = command.recipe, plan.recipe, command.machines
    train = config.train
    of_a_record = sum(part.total for part in plan.flops_of_a_record.values())
    stored = plan.checkpoint_bytes * plan.checkpoints_kept
    return "\n".join(
        [
            f"# Plan of `{config.run.name}` on {machines.gpu}",
            "",
            f"{plan.parameters:,} parameters, ZeRO-{train.zero_stage}, {train.precision}; "
            f"{of_a_record / 1e9:,.1f} GFLOP a record.",
            f"{recipe.gpus} GPUs: {train.steps:,} steps of {recipe.records_per_step} records in {plan.hours:,.2f} "
            f"hours ({recipe.step_seconds * 1e3:,.1f} ms a step, weak-scaling efficiency {recipe.efficiency:.0%}).",
            f"Checkpoints: {plan.checkpoints:,} of {_size(plan.checkpoint_bytes)}, "
            f"{_size(plan.checkpoint_bytes * plan.checkpoints)} written in all, {_size(stored)} kept.",
            "",
            *_table(("memory of a GPU", "bytes"), _memory_rows(recipe)),
            "",
            *_table(("sent in a step", "by", "calls", "payload", "on the wire of a GPU", "ms"), _sent_rows(recipe)),
            "",
            *_table(
                ("GPUs", "records a step", "ms a step", "computing", "waiting", "efficiency", "records/s", "GPU memory",
                 "sent by a GPU", "hours for the recipe's records"),
                [_scaling_row(plan, prediction) for prediction in plan.scaling],
            ),
            "",
            "Assumptions:",
            "",
            *(f"- {assumption}" for assumption in plan.assumptions),
        ]
    )  # fmt: skip


def _memory_rows(prediction: Prediction) -> list[tuple[str, ...]]:
    rows = [(part, _size(size)) for part, size in prediction.memory.items()]
    return [*rows, ("all", _size(sum(prediction.memory.values())))]


def _sent_rows(prediction: Prediction) -> list[tuple[str, ...]]:
    return [
        (
            one.part,
            one.collective,
            f"{one.calls:,}",
            f"{one.payload_bytes:,}",
            f"{one.wire_bytes:,.0f}",
            f"{one.seconds * 1e3:.2f}",
        )
        for one in prediction.sent
    ]


def _scaling_row(plan: ScalePlan, prediction: Prediction) -> tuple[str, ...]:
    return (
        f"{prediction.gpus:,}",
        f"{prediction.records_per_step:,}",
        f"{prediction.step_seconds * 1e3:,.1f}",
        f"{prediction.compute_seconds * 1e3:,.1f}",
        f"{prediction.exposed_seconds * 1e3:,.1f}",
        f"{prediction.efficiency:.1%}",
        f"{prediction.records_per_step / prediction.step_seconds:,.0f}",
        _size(sum(prediction.memory.values())),
        _size(sum(one.wire_bytes for one in prediction.sent)),
        f"{plan.hours_of(prediction):,.2f}",
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """In Markdown, its columns aligned."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [[cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
             for row in (header, *rows)]  # fmt: skip
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _write(command: Plan, plan: ScalePlan, text: str) -> None:
    assert command.out is not None
    name = f"{command.recipe.run.name}_plan"
    content = {"cluster": asdict(command.machines), "recipe": asdict(command.recipe), **asdict(plan)}
    with explain_write_errors(command.out):
        command.out.mkdir(parents=True, exist_ok=True)
        write_atomically(command.out / f"{name}.json", (json.dumps(content, indent=1) + "\n").encode())
        write_atomically(command.out / f"{name}.md", (text + "\n").encode())
    print(f"\nwritten to {command.out}/{name}.json and {name}.md")
