"""`spe predict MODEL [FILE …]`: entities and relations of raw text, or what a model of another task predicts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NoReturn

import tyro

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, written_output
from data_shards.hub import fetch_model
from data_shards.input.format import TextFormat
from data_shards.input.stream import STANDARD_INPUT
from data_shards.stop_requests import every_request
from data_shards.text.offset_units import OffsetUnit
from launcher.arguments import parse_arguments, refuse
from launcher.predict_corpus.bad_lines import BadLines
from launcher.predict_corpus.counts import Counts, speed_text
from launcher.predict_corpus.progress import Progress
from launcher.predict_formats import FOLDERS, check_folder, file_writer, title_of, write_folder
from launcher.predict_input import Item, Reading, read_items
from launcher.predict_results import Result, as_json, json_line, streamed
from spe_dist.extraction.graphs.graph import Scope
from spe_dist.finetuning.model_stem import require_model, stem_of

if TYPE_CHECKING:
    from spe_dist.extraction.predict.extractor import Extractor

OutputFormat = Literal["jsonl", "terminal", "html", "label_studio", "graphml", "nt", "neo4j", "brat"]
_ENDINGS: dict[str, OutputFormat] = {
    ".jsonl": "jsonl", ".json": "jsonl", ".html": "html", ".txt": "terminal",
    ".graphml": "graphml", ".nt": "nt",
}  # fmt: skip
_OF_SHARDS = ("records_per_file", "ray", "workers")
_OF_TEXTS = (
    "input_format", "text_field", "precision", "min_entity_score", "min_relation_score", "max_bad_lines", "graph_nodes",
    *_OF_SHARDS,
)  # fmt: skip


@dataclass(frozen=True)
class Predict:
    """Find entities and relations in raw text, or relations of documents, with a fine-tuned model.

    In a shell:
        spe predict MODEL --text "Marie Curie was born in Warsaw."
        spe predict MODEL notes.txt --out found.jsonl
        cat notes.txt | spe predict MODEL > found.jsonl
        spe predict MODEL corpus/ --out found/                  # shards; the same command resumes
        spe predict MODEL corpus/ --out found/ --ray            # on all GPUs or cores of a Ray cluster

    Input: a text per line, JSON with a text or words, Parquet, WikiExtractor output, or annotated data (see spe data
    check), whose annotations are ignored; `-`, or no file, is standard input. Texts may be long: they are split into
    sentences. Each text gives one line of JSON, in the same order.

    A model of document relations (spe finetune document-relations) reads documents that give their mentions, such as
    DocRED's format, or, with --mentions, the texts above, and writes a graph for each: a line of JSON with nodes and
    edges.
        spe predict DOCUMENT_MODEL notes.txt --mentions EXTRACTOR --out found.graphml

    A model of another task reads the files that it was fine-tuned on, with or without labels (see docs/tasks.md):
        spe predict MODEL --text "The <e1>audits</e1> were about <e2>waste</e2>."
    """

    model: tyro.conf.Positional[Path]
    """Folder of a fine-tuned model, such as RUN/seed-1/model, or USER/MODEL on the Hugging Face hub (spe push)."""
    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files or folders, compressed (.gz, .bz2) or not."""
    text: str | None = None
    """Text to read instead of files."""
    out: Path | None = None
    """File to write (completely or not at all), or a folder (a name without an ending) for shards of JSON lines and a
    manifest. If a command that writes a folder is stopped or killed, the same command resumes it. Default: standard
    output."""
    format: OutputFormat | None = None
    """Output format. Default: by the ending of --out (.jsonl, .json, .html, .txt, .graphml, .nt); without --out,
    coloured text in a terminal and JSON lines elsewhere. label_studio: tasks with predictions for Label Studio.
    graphml, nt, neo4j: a graph (neo4j: a folder of two files). brat: a folder of texts and annotations."""
    graph_nodes: Scope = "corpus"
    """Scope of a graph's nodes: mentions of one type and name are one node in all texts together (corpus), which keeps
    the graph in memory, or one node in each text (text)."""
    input_format: TextFormat | None = None
    """Format of the files. Default: recognised by their first lines, then by their endings."""
    text_field: str = "text"
    """Field of a JSON object, or column of a table (Parquet, CSV, TSV), that holds the text."""
    mentions: str | None = None
    """Model that finds the mentions of entities in raw texts, for a model of document relations: an extractor, or a
    spaCy pipeline (an installed package or a folder). Mentions of one type and name in a text are one entity."""
    offsets: OffsetUnit = "characters"
    """Unit of offsets in a text, in files that give mentions: characters (Unicode code points), utf16 (units of
    JavaScript, Java and C#) or bytes (of UTF-8)."""
    device: str | None = None
    """Device: cpu, cuda, cuda:1. Default: a GPU if there is one."""
    precision: Literal["bf16", "fp32"] | None = None
    """Precision: bf16 or fp32. Default: fp32 on a CPU and bf16 on a GPU."""
    batch_size: int = 256
    """Maximum number of sentences in a batch."""
    min_entity_score: float = 0.0
    """Drop entities with a lower score, and their relations. Scores are probabilities calibrated on the dev data of the
    fine-tuning; its scores.txt shows precision and recall at each threshold."""
    min_relation_score: float = 0.0
    """Drop relations with a lower score."""
    max_bad_lines: int = 0
    """Maximum number of malformed lines, rows or blocks to skip; one more ends the command."""
    records_per_file: int = 5_000
    """Lines, rows or documents of the input per file of an --out folder; fewer if they have more than 64 MiB."""
    ray: bool = False
    """Predict an --out folder on the Ray cluster at RAY_ADDRESS or, without one, on all GPUs or cores of this
    machine."""
    workers: int | None = None
    """With --ray, number of extractors that predict at the same time; several share a GPU if there are fewer GPUs.
    Default: one per GPU or, without GPUs, one per core, except for one core of the cluster that reads the input."""


def main(argv: list[str]) -> None:
    """Run `spe predict`."""
    command: Predict = parse_arguments(Predict, argv, prog="spe predict")
    progress = Progress()
    try:
        with every_request(_interrupt), progress.shown() if command.out else nullcontext():
            summary = run_predict(command, progress)
    except _Interrupted as interrupted:
        kept = f"; {command.out} is not written (a folder keeps what is finished)" if command.out else ""
        print(f"error: interrupted after {progress}{kept}", file=sys.stderr)
        sys.exit(128 + interrupted.number)  # as shells say it
    if command.out:
        print(summary, file=sys.stderr)


class _Interrupted(KeyboardInterrupt):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _interrupt(number: int) -> NoReturn:
    raise _Interrupted(number)


def run_predict(command: Predict, progress: Progress) -> str:
    """Read, predict, write; gives what came out, for people."""
    if command.batch_size < 1:
        raise UserError(f"--batch-size {command.batch_size}: it must be at least 1")
    if command.text is not None and command.files:
        raise UserError("give either --text or files, not both")
    command = replace(command, model=fetch_model(command.model))
    stem = stem_of(command.model)
    if stem == "document_relations":
        from launcher.predict_documents import RawTexts, predict_documents

        _check_out(command, stem)
        bad_lines = BadLines(command.max_bad_lines)
        raw = RawTexts(_items(command, bad_lines, progress), bad_lines) if command.mentions is not None else None
        with opened(command.out) as file:
            lines = predict_documents(command, file, raw, progress)
        return "\n".join([f"{command.out}:", *lines]) if lines else f"{command.out}: {progress}"
    if stem is not None and stem != "extractor":
        _predict_items(command, stem, progress)
        return f"{command.out}: {progress}"
    bad_lines = BadLines(command.max_bad_lines)
    items = _items(command, bad_lines, progress)
    _check_out(command)
    require_model(command.model, "extractor")
    refuse(
        command, ("mentions",), f"is for models of document relations, and {command.model} is an extractor: remove it"
    )
    if command.offsets != "characters":
        raise UserError(f"--offsets: {command.model} is an extractor, which reads no offsets in a text: remove it")
    from spe_dist.engine.machine import Machine

    machine = Machine.here()
    note = machine.unused_gpus(machine.gpus) if command.device is None else None
    if note:
        print(note, file=sys.stderr)
    names = ("device", "precision", "batch_size", "min_entity_score", "min_relation_score")
    settings = {name: getattr(command, name) for name in names}
    if _writes_shards(command):
        from launcher.predict_corpus.run import predict_corpus

        return predict_corpus(command, settings, progress)
    return _predict_texts(command, settings, items, bad_lines, progress)


def _predict_texts(
    command: Predict, settings: dict[str, Any], items: Iterator[Item], bad_lines: BadLines, progress: Progress
) -> str:
    """One after another, to standard output or a file."""
    from spe_dist.extraction.predict.extractor import Extractor

    extractor = Extractor.from_pretrained(command.model, **settings)
    progress.begin("predicting")
    counts, began = Counts(), time.monotonic()
    interactive = command.text is None and command.files in ((), (STANDARD_INPUT,)) and sys.stdin.isatty()
    found = _one_by_one(extractor, items) if interactive else streamed(extractor, items, progress.add_sentences)
    results = _counted(found, counts, progress)
    if command.format in FOLDERS and command.out is not None:
        write_folder(command.format, results, command.out, command.graph_nodes)
    else:
        form = _writer_of(command)
        with opened(command.out) as file:
            for chunk in form(extractor, results):
                file.write(chunk.encode(errors="replace"))
                if interactive:
                    file.flush()
    lines = counts.lines(bad_lines, speed_text(counts, time.monotonic() - began))
    return "\n".join([f"{command.out}:", *lines])


def _predict_items(command: Predict, stem: str, progress: Progress) -> None:
    """With a model of a task whose items are more than texts."""
    _check_out(command, stem)
    refuse(command, ("mentions",), f"is for models of document relations, and {command.model} is none: remove it")
    refuse(command, _OF_TEXTS, f"is for extractors, and {command.model} is none: remove it")
    if command.format not in (None, "jsonl"):
        raise UserError(f"--format {command.format}: this task writes only JSON lines: remove it")
    files = [] if command.text is not None else list(command.files or (STANDARD_INPUT,))
    from spe_dist.finetuning.item_task import ItemTask
    from spe_dist.tasks import config_of_task

    task: Any = config_of_task(stem, source=str(command.model)).task_class()(None)
    assert isinstance(task, ItemTask)
    found = task.predicted(
        command.model,
        files,
        command.text,
        offsets=command.offsets,
        device=command.device,
        batch_size=command.batch_size,
    )
    with opened(command.out) as file:
        for fields in found:
            file.write((as_json(fields) + "\n").encode())
            progress.add(1)


def _items(command: Predict, bad_lines: BadLines, progress: Progress) -> Iterator[Item]:
    if command.text is not None:
        return iter([Item(command.text)])
    return read_items(
        command.files or (STANDARD_INPUT,), Reading(command.input_format, command.text_field, bad_lines, progress)
    )


def _writes_shards(command: Predict) -> bool:
    if command.out is None or command.format is not None:
        return False
    return command.out.is_dir() or not command.out.suffix


def _check_out(command: Predict, stem: str = "extractor") -> None:
    if stem != "extractor" or not _writes_shards(command):
        refuse(command, _OF_SHARDS, "needs --out FOLDER: a name without an ending")
        _check_file(command, stem)
    elif command.text is not None:
        raise UserError(
            f"--out {command.out} is a folder, which is for files: name a file, such as {command.out}.jsonl"
        )
    check_no_input(command.out, command.files)


def check_no_input(out: Path | None, files: Sequence[str]) -> None:
    """Refuse an output that is one of the input files, or inside an input folder."""
    if out is None:
        return
    for path in (Path(name) for name in files if name != STANDARD_INPUT):
        if path.resolve() in out.resolve().parents:
            raise UserError(f"--out {out} is inside an input folder: name a file elsewhere")
        if path.is_file() and out.exists() and out.samefile(path):
            raise UserError(f"--out {out} is an input file: name another output file")


def _check_file(command: Predict, stem: str) -> None:
    if command.format in FOLDERS:
        check_folder(command.format, command.out)
        return
    if command.out is None:
        return
    if command.out.is_dir() or not command.out.parent.is_dir():
        what = "is a folder" if command.out.is_dir() else "is in a folder that does not exist"
        raise UserError(f"--out {command.out} {what}: name a file in a folder that exists")
    if command.format is None and command.out.suffix not in _ENDINGS:
        raise UserError(f"--out {command.out}: unknown ending: use one of {', '.join(_ENDINGS)}, or give --format")
    written = ("jsonl", "graphml", "nt") if stem == "document_relations" else ("jsonl",)
    if stem != "extractor" and command.format is None and _ENDINGS[command.out.suffix] not in written:
        what = f"a model of {stem.replace('_', ' ')} writes JSON lines{' or a graph' if len(written) > 1 else ''}"
        raise UserError(f"--out {command.out}: {what}: end its name in .jsonl")


def _one_by_one(extractor: Extractor, items: Iterator[Item]) -> Iterator[Result]:
    """Whoever types wants an answer before the next line."""
    for item in items:
        yield item.fields, extractor([item.text])[0]


def _counted(results: Iterator[Result], counts: Counts, progress: Progress) -> Iterator[Result]:
    for result in results:
        yield result
        counts.add(result[1])
        progress.add(1)


def _writer_of(command: Predict) -> Callable[[Extractor, Iterator[Result]], Iterator[str]]:
    in_terminal = command.out is None and sys.stdout.isatty()
    coloured = in_terminal and not os.environ.get("NO_COLOR")
    form: OutputFormat
    if command.format is not None:
        form = command.format
    elif command.out is None:
        form = "terminal" if in_terminal else "jsonl"
    else:
        form = _ENDINGS[command.out.suffix]
    writers: dict[str, Callable[[Extractor, Iterator[Result]], Iterator[str]]] = {
        "jsonl": json_lines,
        "terminal": partial(_terminal_text, coloured=coloured),
        "html": partial(_html_page, source=_source_of(command)),
    }
    return writers.get(form) or file_writer(form, command.model, command.graph_nodes)


def json_lines(_: Extractor, results: Iterator[Result]) -> Iterator[str]:
    """A line for each text."""
    for fields, extracted in results:
        yield json_line(fields, extracted)


def _terminal_text(extractor: Extractor, results: Iterator[Result], *, coloured: bool) -> Iterator[str]:
    from spe_dist.extraction.predict.terminal_text import terminal_text

    for _, extracted in results:
        yield terminal_text(extracted, extractor.entity_types, coloured=coloured)


def _source_of(command: Predict) -> str:
    files = ["standard input" if name == STANDARD_INPUT else name for name in command.files or (STANDARD_INPUT,)]
    return f"{', '.join(files) if command.text is None else '--text'}, read by {command.model}"


def _html_page(extractor: Extractor, results: Iterator[Result], *, source: str) -> Iterator[str]:
    from spe_dist.extraction.predict.html_page import html_page

    titled = ((title_of(fields), extracted) for fields, extracted in results)
    return html_page(titled, extractor.entity_types, source=source)


@contextmanager
def opened(out: Path | None) -> Iterator[BinaryIO]:
    """The file, which is written completely or not at all, or standard output."""
    with explain_write_errors(Path("standard output") if out is None else out.parent):
        if out is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        else:
            with written_output(out) as file:
                yield file
