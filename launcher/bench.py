"""`spe bench CASE … [-- SETTINGS OF A RUN]`: how fast parts of the system are, beside what they are compared with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import tyro

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from launcher.arguments import parse_arguments
from launcher.output import print_json, rounded, text_aside
from launcher.recipe_arguments import read_arguments
from spe_dist.config import Config
from spe_dist.engine.world import World
from spe_dist.recipe import config_from_values, config_values, read_values
from spe_dist.text_table import markdown_table
from spe_dist.versions import package_versions, this_machine

if TYPE_CHECKING:
    from launcher.bench_serve import Part
    from spe_dist.benchmarks.launches import PartLaunches
    from spe_dist.benchmarks.timing import Timed
    from spe_dist.train.gradients import ObjectiveGradient

Case = Literal[
    "span-pool", "attention", "ceilings", "step", "packing", "objectives", "methods", "gradients", "launches", "loader",
    "saving", "predict", "serve",
]  # fmt: skip

_SPE_RECIPE = Path(__file__).with_name("recipes") / "minilm_cpu.yaml"


@dataclass(frozen=True)
class Bench:
    """Measure cases and print one table. Variants of a case run alternately; the first is the baseline.

    Cases:
        span-pool      the span CNN alone, compared with gather, pad, Conv1d, GELU, max
        attention      attention of packed sequences alone, by mean length, and the length at which another one is
                       faster: torch's varlen_attn and short_attention on a GPU, ways of padding on a CPU
        ceilings       the highest speed that the device reaches: copies, and matrix products of the encoder's shapes
        step           a whole step: records per second, MFU; on a GPU also waits, kernels and idle time
        packing        a whole step, compared with padding and the reference span_pool
        objectives     a whole step of the recipe's method, compared with masked language modelling alone
        methods        a whole step of a recipe's method, compared with a step of SPE (minilm_cpu) on the same records
        gradients      share of each objective in the first step's gradient (not timed)
        launches       operators of a step on a GPU, by part, counted on the CPU (not timed)
        loader         records per second of one loader process
        saving         time that training waits for saves, and the parts of a restart
        predict        sentences per second and memory of an extractor on raw text
        serve          latency of a service under load, while processes are killed, and while bad requests come in

    All cases except span-pool, attention, predict and serve take the settings of `spe pretrain` after `--`, and all of
    these but ceilings need its shards.
    predict and serve run alone: `spe bench predict -- MODEL FILE …`, with files as for `spe predict` (`-- --help`).
    """

    cases: tyro.conf.Positional[tuple[Case, ...]]
    """Cases to measure."""
    out: Path | None = None
    """Folder for bench_NAME.json and bench_NAME.md of each case."""
    repeats: int = 7
    """Repeats; figures are medians over them."""
    compiled: bool = True
    """span-pool: also measure the baseline with torch.compile."""
    json: bool = False
    """Print what bench_NAME.json would hold of each case, by its name; tables go to standard error."""


@dataclass(frozen=True)
class PredictBench:
    """What `spe bench predict` measures, after `--`."""

    model: tyro.conf.Positional[Path]
    """Folder of an extractor."""
    files: tyro.conf.Positional[tuple[str, ...]]
    """Files of text, as for spe predict."""
    sentences: int = 20_000
    """Sentences to read in each repeat."""
    precisions: tuple[Literal["bf16", "fp32"], ...] = ()
    """Precisions to measure. Default: both; of an export (spe export MODEL --format …), its own."""
    batch_size: int = 256
    """Maximum number of sentences in a batch."""
    device: str | None = None
    """Device: cpu, cuda, cuda:1. Default: a GPU if there is one."""


def main(argv: list[str]) -> None:
    """Run `spe bench`."""
    mine, settings = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    command: Bench = parse_arguments(Bench, mine, prog="spe bench")
    for alone in ("predict", "serve"):
        if alone in command.cases and len(command.cases) > 1:
            raise UserError(f"{alone} takes other settings after -- than the other cases: measure it alone")
    with text_aside(command.json):
        measured = dict(_measured(command, argv, settings))
    if command.json:
        print_json(measured)


def _measured(command: Bench, argv: list[str], settings: list[str]) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Each case with what its JSON holds, after its table is printed."""
    if command.cases == ("serve",):
        from launcher.bench_serve import ServeBench, measure_service

        served, table = measure_service(parse_arguments(ServeBench, settings, prog="spe bench serve --"))
        yield "serve", _report("serve", command, argv, served, table, None)
        return
    if command.cases == ("predict",):
        predict: PredictBench = parse_arguments(PredictBench, settings, prog="spe bench predict --")
        rows = _measure_prediction(predict, command.repeats)
        yield "predict", _report("predict", command, argv, rows, _table(rows), None)
        return
    config = read_arguments(settings)[0]
    cores = torch.get_num_threads()
    for case in command.cases:
        alone = case in ("span-pool", "attention")  # of a run they need nothing
        torch.set_num_threads(cores if alone else config.cluster.cpus_per_worker)  # as a rank would
        values = None if alone else config_values(config)
        if case == "attention":
            from spe_dist.benchmarks.attention import measure_attention

            rows, crossovers = measure_attention(*_where(), repeats=command.repeats)
            yield case, _report(case, command, argv, rows, "\n".join([_table(rows), *crossovers, ""]), values)
            continue
        if case == "gradients":
            from spe_dist.benchmarks.gradients import measure_gradients

            gradients = measure_gradients(config)
            yield case, _report(case, command, argv, gradients, _gradient_table(gradients), values)
            continue
        if case == "launches":
            from spe_dist.benchmarks.launches import count_launches

            parts = count_launches(config)
            yield case, _report(case, command, argv, parts, _launch_table(parts), values)
            continue
        rows = _measure(case, command, config)
        yield case, _report(case, command, argv, rows, _table(rows), values)


def _report(
    case: Case,
    command: Bench,
    argv: list[str],
    rows: Sequence[Timed | ObjectiveGradient | PartLaunches | Part],
    table: str,
    config: dict[str, Any] | None,
) -> dict[str, Any]:
    threads = counted(torch.get_num_threads(), "thread")
    print(f"{case}: {this_machine()['processor']}, {_device()}, {threads}\n\n{table}")
    data = {
        "command": " ".join(["spe bench", *argv]),
        "machine": this_machine() | {"device": _device(), "threads": torch.get_num_threads()},
        "versions": package_versions(),
        "config": config,
        "rows": rounded([asdict(row) for row in rows]),
    }
    if command.out is not None:
        with explain_write_errors(command.out):
            command.out.mkdir(parents=True, exist_ok=True)
            write_atomically(command.out / f"bench_{case}.json", (json.dumps(data, indent=1) + "\n").encode())
            write_atomically(command.out / f"bench_{case}.md", table.encode())
    return data


def _measure_prediction(settings: PredictBench, repeats: int) -> list[Timed]:
    from launcher.predict_input import read_items
    from spe_dist.benchmarks.extractor_throughput import measure_prediction

    return measure_prediction(
        settings.model,
        lambda: (item.text for item in read_items(settings.files)),
        sentences=settings.sentences,
        precisions=settings.precisions,
        batch_size=settings.batch_size,
        device=settings.device,
        repeats=repeats,
    )


def _measure(case: Case, command: Bench, config: Config) -> list[Timed]:
    # Imported on use: span-pool must not wait for DeepSpeed.
    match case:
        case "span-pool":
            from spe_dist.benchmarks.span_pool import measure_span_pool

            return measure_span_pool(*_where(), repeats=command.repeats, compiled=command.compiled)
        case "ceilings":
            from spe_dist.benchmarks.ceilings import measure_ceilings

            return measure_ceilings(config.encoder, World().device, repeats=command.repeats)
        case "step":
            from spe_dist.benchmarks.step_on_device import measure_step

            return measure_step(config, repeats=command.repeats)
        case "packing":
            from spe_dist.benchmarks.training_step import measure_packing

            return measure_packing(config, repeats=command.repeats)
        case "objectives":
            from spe_dist.benchmarks.training_step import measure_objectives

            return measure_objectives(config, repeats=command.repeats)
        case "methods":
            from spe_dist.benchmarks.training_step import measure_methods

            return measure_methods(_spe_beside(config), config, repeats=command.repeats)
        case "loader":
            from spe_dist.benchmarks.loader import measure_loader

            return measure_loader(config, repeats=command.repeats)
        case "saving":
            from spe_dist.benchmarks.saving import measure_saving

            return measure_saving(config, repeats=command.repeats)
        case "attention" | "predict" | "serve" | "gradients" | "launches":
            raise AssertionError("they have reports of their own")


def _where() -> tuple[torch.device, torch.dtype]:
    """What kernels alone are measured on, and in."""
    device = World().device
    return device, torch.bfloat16 if device.type == "cuda" else torch.float32


def _spe_beside(config: Config) -> Config:
    """SPE on the data, batches and encoder of a run of another method."""
    values, common = read_values(_SPE_RECIPE), config_values(config)
    if config.method == values["method"]:
        raise UserError("methods compares a method with SPE: give a recipe of another one after --")
    shared = {field.name: common[field.name] for field in fields(Config) if field.name != "method"}
    return config_from_values(values | shared, source=str(_SPE_RECIPE))


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def _table(rows: list[Timed]) -> str:
    """Markdown; a ratio above 1 says how much faster than the first variant of its case a row is."""
    notes = sorted({name for row in rows for name in row.notes})
    header = ["case", "variant", "median", "spread", "faster", *notes]
    lines = []
    baselines: dict[str, Timed] = {}
    for row in rows:
        baseline = baselines.setdefault(row.case, row)
        faster = "1" if row is baseline else f"{row.times_faster(baseline):.2f} x"
        cells = [row.case, row.variant, _duration(row.median), f"{row.spread:.0%}", faster]
        lines.append([*cells, *(_note(row.notes.get(name)) for name in notes)])
    return markdown_table(header, lines, left=2) + "\n"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:,.0f} µs"


def _gradient_table(rows: list[ObjectiveGradient]) -> str:
    """Markdown."""
    header = ["objective", "weight", "loss", "gradient on the layers, weighted", "share of the step"]
    cells = [
        [row.objective, f"{row.weight:g}", f"{row.loss:.3f}", f"{row.norm:.3g}", f"{row.share:.1%}"] for row in rows
    ]
    return markdown_table(header, cells) + "\n"


def _launch_table(parts: list[PartLaunches]) -> str:
    """Markdown, the most frequent operators of each part beside it."""
    rows = [
        [
            part.part,
            f"{part.launches:,}",
            ", ".join(f"{name} {calls}" for name, calls in list(part.operators.items())[:4]),
        ]
        for part in parts
    ]
    rows.append(["a step", f"{sum(part.launches for part in parts):,}", ""])
    return markdown_table(["part", "launches", "most calls"], rows) + "\n"


def _note(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:,.4g}"
