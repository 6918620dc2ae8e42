"""`spe suggest MODEL FILE …`: the texts that are worth annotating next."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.hub import fetch_model
from data_shards.input.format import TextFormat
from data_shards.input.stream import STANDARD_INPUT
from launcher.arguments import parse_arguments
from launcher.predict import check_no_input, json_lines, opened
from launcher.predict_formats import check_folder, label_studio_tasks, version_of, write_folder
from launcher.predict_input import Reading, read_items
from launcher.predict_results import streamed
from spe_dist.config import Count
from spe_dist.finetuning.model_stem import require_model


@dataclass(frozen=True)
class Suggest:
    """Pick the texts that are worth annotating next: those a model is least sure of, no two alike, and some at random.

    In a shell:
        spe suggest runs/people/seed-1/model pool.txt --count 100 --out tasks.json --format label_studio
    """

    model: tyro.conf.Positional[Path]
    """Folder of a fine-tuned extractor, such as RUN/seed-1/model, or USER/MODEL on the Hugging Face hub."""
    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files or folders of texts, as spe predict reads them. Standard input: -, or no file."""
    count: int = 100
    """Number of texts to pick."""
    out: Path | None = None
    """File to write, or folder with --format brat. Default: standard output."""
    format: Literal["jsonl", "label_studio", "brat"] = "jsonl"
    """Output format, which includes the model's predictions: jsonl (as of spe predict), label_studio or brat."""
    seed: Count = 1
    """Random seed of the texts that are picked at random; the same seed gives the same texts."""
    input_format: TextFormat | None = None
    """Format of the files. Default: recognised by their first lines, then by their endings."""
    text_field: str = "text"
    """Field of a JSON object, or column of a table (Parquet, CSV, TSV), that holds the text."""
    device: str | None = None
    """Device: cpu, cuda, cuda:1. Default: a GPU if there is one."""
    batch_size: int = 256
    """Maximum number of sentences in a batch."""


def main(argv: list[str]) -> None:
    """Run `spe suggest`."""
    run_suggest(parse_arguments(Suggest, argv, prog="spe suggest"))


def run_suggest(command: Suggest) -> None:
    """Read, predict, pick, write."""
    if command.count < 1:
        raise UserError(f"--count {command.count}: pick at least one text")
    if command.format == "brat":
        check_folder(command.format, command.out)
    elif command.out is not None and (command.out.is_dir() or not command.out.parent.is_dir()):
        raise UserError(f"--out {command.out}: name a file in a folder that exists")
    check_no_input(command.out, command.files)
    command = replace(command, model=fetch_model(command.model))
    require_model(command.model, "extractor")
    from spe_dist.extraction.predict.extractor import Extractor
    from spe_dist.extraction.predict.suggest import suggest

    items = read_items(command.files or (STANDARD_INPUT,), Reading(command.input_format, command.text_field))
    extractor = Extractor.from_pretrained(command.model, device=command.device, batch_size=command.batch_size)
    chosen = suggest(streamed(extractor, items), command.count, seed=command.seed)
    results = [(one.fields, one.extracted) for one in chosen]
    if command.format == "brat":
        assert command.out is not None  # `check_folder`
        write_folder("brat", iter(results), command.out, "text")
    else:
        tasks = command.format == "label_studio"
        lines = (
            label_studio_tasks(results, version_of(command.model)) if tasks else json_lines(extractor, iter(results))
        )
        with opened(command.out) as file:
            for line in lines:
                file.write(line.encode(errors="replace"))
    doubts = [one.doubt for one in chosen if not one.at_random]
    least = f", uncertainty {min(doubts):.2f} to {max(doubts):.2f}" if doubts else ""
    print(
        f"{counted(len(chosen), 'text')}: {len(doubts):,} chosen{least}, {len(chosen) - len(doubts):,} at random",
        file=sys.stderr,
    )
