"""`spe plan`: memory of a rank and traffic of a step at each ZeRO stage, computed by formulas. Starts no process.

Takes the settings of `spe pretrain`; `--cluster.workers` is the number of ranks. With shards, the table also has the
activations that the largest forward pass keeps for its backward pass, unless the section `compute` pads sequences or
checkpoints activations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic, TypeVar

import tyro

from data_shards.counted import counted
from data_shards.errors import UserError
from launcher.arguments import parse_arguments
from launcher.output import print_json
from launcher.recipe_arguments import split_recipe
from spe_dist.config import Config
from spe_dist.engine.zero_config import STAGES
from spe_dist.methods.registry import spec_of
from spe_dist.models.saved_encoder import resolve_encoder_config
from spe_dist.recipe import load_recipe
from spe_dist.text_table import text_table
from spe_dist.train.activations import activation_bytes
from spe_dist.train.data_order import build_plan, open_reader
from spe_dist.train.footprint import checkpoint_bytes, rank_memory, step_transfers

_KEPT = "kept by the largest forward"
ConfigOfMethod = TypeVar("ConfigOfMethod", bound=Config)


@dataclass(frozen=True)
class Plan(Generic[ConfigOfMethod]):
    """A recipe, and what stands in for its shards."""

    recipe: Annotated[ConfigOfMethod, tyro.conf.arg(name="")]
    vocabulary: int | None = None
    """Vocabulary size of a new encoder. If given, no shards are read."""
    json: bool = False
    """Print one JSON object; lists have a number of bytes for each ZeRO stage."""


def main(argv: list[str]) -> None:
    """Run `spe plan` with the arguments after it."""
    path, rest = split_recipe(argv)
    recipe = load_recipe(path)
    generic: Any = Plan
    command: Plan = parse_arguments(
        generic[type(recipe)], rest, default=Plan(recipe), prog="spe plan", description=__doc__
    )
    planned = plan_run(command.recipe, command.vocabulary)
    if command.json:
        print_json(planned)
    else:
        print(
            _text(
                planned, exact=command.recipe.batch.pieces_per_forward is None, with_shards=command.vocabulary is None
            )
        )


def plan_run(config: Config, vocabulary: int | None) -> dict[str, Any]:
    """Bytes by part and ZeRO stage, and the size of a checkpoint.

    Raises:
        UserError: shards or encoder cannot be read, or the settings do not fit.
    """
    reader, manifest, longest = None, None, 1
    if vocabulary is None:
        try:
            reader = open_reader(config)
        except UserError as error:
            raise UserError(f"{error}; without shards, give --vocabulary (28996 is that of bert-base-cased)") from error
        manifest = reader.manifest
        vocabulary, longest = manifest.tokenizer.vocab_size, manifest.max_pieces
    elif vocabulary < 1:
        raise UserError(f"--vocabulary {vocabulary}: must be at least 1 (28996 is that of bert-base-cased)")
    elif config.encoder.name_or_path:
        vocabulary = 1  # its own is larger
    encoder = resolve_encoder_config(config.encoder, vocab_size=vocabulary, max_pieces=longest)
    model = spec_of(config).model_without_weights(config, encoder, manifest)
    plan = build_plan(config, config.cluster.workers)
    accumulation = plan.accumulation
    if manifest is not None:
        accumulation = plan.usual_accumulation(2 + manifest.statistics.pieces / max(1, manifest.statistics.records))
    is_counted = config.compute.packed and not config.compute.checkpoint_activations
    kept = activation_bytes(config, reader, model, plan) if reader is not None and is_counted else 0
    memory: dict[str, list[float]] = {}
    sent: dict[str, list[float]] = {}
    for column, stage in enumerate(STAGES):
        staged = replace(config, train=replace(config.train, zero_stage=stage))
        for part, size in rank_memory(staged, model, world_size=plan.world_size).items():
            memory.setdefault(part, [0.0] * len(STAGES))[column] = size
        if kept:
            memory.setdefault(_KEPT, [0.0] * len(STAGES))[column] = kept
        for transfer in step_transfers(staged, model, plan, accumulation=accumulation):
            row = sent.setdefault(f"{transfer.part} ({transfer.collective})", [0.0] * len(STAGES))
            row[column] = transfer.sent_bytes(plan.world_size)
    return {
        "run": config.run.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "precision": config.train.precision,
        "ranks": plan.world_size,
        "forwards_a_step": accumulation,
        "bytes_of_a_checkpoint": checkpoint_bytes(config, model),
        "zero_stages": list(STAGES),
        "bytes_of_a_rank": memory,
        "bytes_sent_by_a_rank_in_a_step": sent,
    }


def _text(planned: dict[str, Any], *, exact: bool, with_shards: bool) -> str:
    """Two tables with a column for each ZeRO stage; forwards cut by a budget are not counted exactly."""
    cut = "" if exact else "about " if with_shards else "at least "
    about = (
        f"{planned['run']}: {planned['parameters']:,} parameters, {planned['precision']}, "
        f"{counted(planned['ranks'], 'rank')} with {cut}{counted(planned['forwards_a_step'], 'forward')} a step; "
        f"{planned['bytes_of_a_checkpoint']:,} bytes a checkpoint"
    )
    memory = planned["bytes_of_a_rank"]
    title = "bytes of a rank" if _KEPT in memory else "bytes of a rank, without activations"
    sent = _table("bytes that a rank sends in a step (ring)", planned["bytes_sent_by_a_rank_in_a_step"])
    return "\n\n".join([about, _table(title, memory), sent])


def _table(title: str, rows: dict[str, list[float]]) -> str:
    rows = {**rows, "all": [sum(column) for column in zip(*rows.values(), strict=True)]}
    cells = [(part, *(f"{size:,.0f}" for size in sizes)) for part, sizes in rows.items()]
    return text_table((title, *(f"ZeRO-{stage}" for stage in STAGES)), cells)
