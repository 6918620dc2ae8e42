"""`spe shards …`: build datasets from text, inspect them, and make vocabularies and sample corpora."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from tokenizers import Tokenizer

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, written_output
from data_shards.input.format import TextFormat
from data_shards.pipeline.annotate import annotate
from data_shards.pipeline.build import build_with_summary
from data_shards.pipeline.build_config import AnnotateConfig, BuildConfig, PairConfig, SentencesConfig
from data_shards.pipeline.corpus import check_has_text, parse_documents, read_units, resolve_sources
from data_shards.pipeline.pairs import pair_sentences
from data_shards.pipeline.sentences import cut_sentences
from data_shards.pipeline.unit_pipeline import BuildSummary
from data_shards.shards import reader
from data_shards.shards.manifest import Manifest, Statistics, load
from data_shards.shards.record import ENTITIES, TEXT_LAYERS, Records
from data_shards.shards.record_words import RecordWords
from launcher.arguments import parse_arguments
from launcher.audit import Audit, run_audit
from launcher.document_text import document_counts, document_lines, has_documents
from launcher.output import print_json
from launcher.sample_corpus import SampleCorpus, run_sample_corpus

if TYPE_CHECKING:
    from spe_dist.config import Config

_MUCH_UNKNOWN = 0.01  # of the pieces
_SHOWN_REPEATS, _SHOWN_CHARACTERS = 3, 80


@dataclass(frozen=True)
class Build(BuildConfig):
    """Build a dataset of shards from text. The same command resumes a build that was interrupted."""

    inputs: tyro.conf.Positional[tuple[str, ...]]


@dataclass(frozen=True)
class Annotate(AnnotateConfig):
    """Write a dataset with the records of another one and the entities that a spaCy pipeline finds in them.

    The same command resumes after an interruption.
    """

    dataset: tyro.conf.Positional[str]


@dataclass(frozen=True)
class Sentences(SentencesConfig):
    """Write a dataset whose records are the sentences of a dataset of documents.

    A sentence keeps its entities, and the relations between entities within it. The same command resumes after an
    interruption.
    """

    dataset: tyro.conf.Positional[str]


@dataclass(frozen=True)
class Pair(PairConfig):
    """Write a dataset whose records are pairs of sentences of another one, for matching the blanks (MTB).

    The facts of both sentences of a positive pair have the same head and the same tail; those of a negative pair have
    only the head or only the tail in common. The same command resumes after an interruption.
    """

    dataset: tyro.conf.Positional[str]


@dataclass(frozen=True)
class Verify:
    """Read a whole dataset and compare every file with the manifest."""

    location: tyro.conf.Positional[str]
    """Folder or URL of a dataset."""
    json: bool = False
    """Print the list of problems as JSON."""


@dataclass(frozen=True)
class Info:
    """Print the contents of a dataset, and what was left out of it."""

    location: tyro.conf.Positional[str]
    """Folder or URL of a dataset."""
    json: bool = False
    """Print the manifest (JSON) without the list of shards."""


@dataclass(frozen=True)
class TrainVocab:
    """Train a WordPiece vocabulary. Repeated training may give a different one: keep the file."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files or folders, as for spe shards build."""
    size: int
    """Maximum number of pieces, including special ones."""
    out: Path
    """Vocabulary file (.txt) to write."""
    format: TextFormat | None = None
    """Format of the files. Default: recognised by their first lines, then by their endings."""
    text_field: str = "text"
    """Field of a JSON object, or column of a table (Parquet, CSV, TSV), that holds the text."""
    lowercase: bool = True
    """Lower-case text and strip accents first."""


@dataclass(frozen=True)
class Show:
    """Print records as a model sees them: entities, and what the method samples (SPE: spans, permutations, views).

    The samples are examples: in a run, they depend on the step and lane of a record.
    """

    location: tyro.conf.Positional[str]
    """Folder or URL of a dataset."""
    record: int = 0
    """First record to show."""
    count: int = 1
    """Number of records."""
    step: int = 0
    """Training step, which determines spans and masks."""
    config: Path | None = None
    """Recipe whose sampling settings are used. Default: the debug recipe."""


Command = (
    Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Annotate, tyro.conf.subcommand("annotate")]
    | Annotated[Sentences, tyro.conf.subcommand("sentences")]
    | Annotated[Pair, tyro.conf.subcommand("pair")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[TrainVocab, tyro.conf.subcommand("train-vocab")]
    | Annotated[SampleCorpus, tyro.conf.subcommand("sample-corpus")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
)

_DERIVED: dict[type, tuple[Any, Callable[[Any], BuildSummary]]] = {
    Annotate: (AnnotateConfig, annotate),
    Sentences: (SentencesConfig, cut_sentences),
    Pair: (PairConfig, pair_sentences),
}


def main(argv: list[str]) -> None:
    """Run `spe shards` with the arguments after these two words."""
    command: Command = parse_arguments(Command, argv, prog="spe shards", description=__doc__)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    match command:
        case Build():
            run_build(command)
        case Annotate() | Sentences() | Pair():
            run_derive(command)
        case Show():
            run_show(command)
        case Info():
            run_info(command)
        case Verify():
            run_verify(command)
        case TrainVocab():
            run_train_vocab(command)
        case SampleCorpus():
            run_sample_corpus(command)
        case Audit():
            run_audit(command)


def run_build(command: Build) -> None:
    """Build a dataset and print what came out."""
    config = BuildConfig(**{field.name: getattr(command, field.name) for field in fields(BuildConfig)})
    print(summary_text(build_with_summary(config), command.out))


def run_derive(command: Annotate | Sentences | Pair) -> None:
    """Make a dataset from another one and print what came out."""
    config_class, make = _DERIVED[type(command)]
    config = config_class(**{field.name: getattr(command, field.name) for field in fields(config_class)})
    print(summary_text(make(config), command.out))


def run_show(command: Show) -> None:
    """Print some records with what may be drawn for them."""
    from launcher.recipe_arguments import DEFAULT
    from spe_dist.recipe import load_recipe

    if command.step < 0:
        raise UserError(f"--step is {command.step}: steps are counted from 0")
    shards = reader.ShardReader(command.location)
    last = command.record + command.count
    if not 0 <= command.record < last <= len(shards):
        raise UserError(
            f"{command.location} holds records 0 to {len(shards) - 1}: choose --record and --count in these"
        )
    pieces = Tokenizer.from_file(str(shards.tokenizer_folder() / "tokenizer.json"))
    words = RecordWords(pieces)
    if command.config is None and has_documents(shards.manifest):  # the default recipe is one of sentences
        describe = _describe_size
    else:
        describe = _describer(load_recipe(command.config or DEFAULT), shards, command.step)
    for record in range(command.record, last):
        records = shards.take([record])
        print(f"record {record}: {describe(records, record, lambda piece: pieces.id_to_token(int(piece)) or '?')}")
        for line in record_lines(records, words, shards.manifest):
            print(line)


def _describer(recipe: Config, shards: reader.ShardReader, step: int) -> Callable[..., str]:
    """Tells what a recipe's method draws for one record, from the record, its number and the text of pieces."""
    from spe_dist.methods.registry import spec_of

    method = spec_of(recipe)
    if method.describe is None:
        return _describe_size
    describe, collate = method.describe, method.build_collate(recipe, shards)
    return lambda record, number, piece: describe(collate, record, step, number, piece)


def _describe_size(record: Records, number: int, piece: Callable[[int], str]) -> str:
    return f"{len(record.pieces.values)} pieces"


def record_lines(records: Records, words: RecordWords, manifest: Manifest) -> Iterator[str]:
    """What the first record has besides its text."""
    if has_documents(manifest):
        (text,) = words.words(records.take(np.array([0])))
        return document_lines(records, text, manifest)
    return layer_lines(records, words, tuple(manifest.entity_types))


def layer_lines(records: Records, words: RecordWords, types: Sequence[str]) -> Iterator[str]:
    """What the first record has besides its text: a line for each entity, and one for each further layer."""
    (text,) = words.words(records.take(np.array([0])))
    for name, layer in records.layers.items():
        if name == ENTITIES:
            for start, end, type in layer.row(0).tolist():
                yield f"  entity   {types[type]}: {' '.join(text[start:end])} (words {start} to {end - 1})"
        elif name not in TEXT_LAYERS:
            yield f"  {name:8} {layer.row(0).tolist()}"


def run_verify(command: Verify) -> None:
    """Print a line for each damaged file; raises if there is any."""
    problems = reader.verify(command.location)
    if command.json:
        print_json(problems)
    else:
        print("\n".join(problems or [f"{command.location}: every file is as the manifest says"]))
    if problems:
        raise UserError(f"{command.location}: {counted(len(problems), 'problem')}; copy or build the dataset again")


def run_train_vocab(command: TrainVocab) -> None:
    """Train a vocabulary and write it."""
    from data_shards.tokenizer.wordpiece import train_vocabulary

    pieces = train_vocabulary(_texts(command), command.size, lowercase=command.lowercase)
    if len(pieces) > command.size:
        raise UserError(
            f"--size {command.size} is too small: single characters and special pieces alone are {len(pieces)}"
        )
    with explain_write_errors(command.out.parent):
        command.out.parent.mkdir(parents=True, exist_ok=True)
        with written_output(command.out) as file:
            file.write(("\n".join(pieces) + "\n").encode())
    print(f"{command.out}: {len(pieces):,} pieces")


def summary_text(summary: BuildSummary, out: Path) -> str:
    """What a build came to, for people."""
    return dataset_text(summary.manifest, str(out), f"  time      {_time_text(summary)}")


def run_info(command: Info) -> None:
    """Print what a dataset holds."""
    if command.json:
        print_json({name: value for name, value in asdict(load(command.location)).items() if name != "shardlist"})
        return
    print(dataset_text(load(command.location), command.location))


def dataset_text(manifest: Manifest, out: str, *further: str) -> str:
    """What a dataset holds and what was left out of it, for people; further lines come before warnings."""
    counts = manifest.statistics
    shard_bytes = sum(shard.filesize for shard in manifest.shardlist)
    case = {True: "lower-cased", False: "cased", None: "as it is"}[manifest.tokenizer.lowercase]
    dropped = ", ".join(f"{count:,} {_reason_text(reason)}" for reason, count in counts.dropped.items()) or "none"
    lines = [
        f"{out}: {counted(counts.records, 'record')} in {counted(len(manifest.shardlist), 'shard')}, "
        f"{shard_bytes / 1e6:,.1f} MB",
        f"  a record  {counts.words / counts.records:.1f} words, {counts.pieces / counts.records:.1f} pieces, "
        f"{shard_bytes / counts.records:.1f} bytes",
        f"  text      {counted(counts.documents, 'document')}, {counted(counts.sentences, 'sentence')} ({case}); "
        f"dropped {dropped}; {counted(counts.bad_lines, 'bad line')}",
        f"  unknown   {_unknown_share(counts):.2%} of the pieces",
        *_repeated_texts(counts),
        *_layer_texts(manifest),
        *further,
    ]
    if _unknown_share(counts) > _MUCH_UNKNOWN:
        lines.append(
            f"warning: {_unknown_share(counts):.1%} of the pieces are unknown: use a tokenizer whose vocabulary covers "
            "the language and the script of the text, or train one with: spe shards train-vocab"
        )
    return "\n".join(lines)


def _reason_text(reason: str) -> str:
    named = {"headings": "section headings", "without_words": "without words", "duplicates": "duplicates"}
    return named.get(reason) or f"with {reason.replace('_', ' ')}"


def _unknown_share(counts: Statistics) -> float:
    return counts.unknown_pieces / counts.pieces


def _repeated_texts(counts: Statistics) -> Iterator[str]:
    """The sentences that are repeated most often; of a dataset without duplicates, before these were dropped.

    Not that one of each was kept: it may have too few entities.
    """
    when = " before duplicates were dropped" if "duplicates" in counts.dropped else ""
    for number, (sentence, count) in enumerate(islice(counts.repeated.items(), _SHOWN_REPEATS)):
        name = "" if number else "repeated"
        text = "".join(character if character.isprintable() else " " for character in sentence)
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
        yield f"  {name:9} {count:,} times or more{when}: {shown}"


def _layer_texts(manifest: Manifest) -> Iterator[str]:
    counts = manifest.statistics
    if has_documents(manifest):
        yield from document_counts(manifest)
        return
    for name, count in counts.further.items():
        yield f"  {name:9} {count:,}, {count / counts.records:.2f} a record"
    if ENTITIES not in manifest.layers:
        return
    types = ", ".join(f"{count:,} {name}" for name, count in sorted(manifest.entity_types.items(), key=lambda t: -t[1]))
    yield f"  entities  {counts.entities:,}, {counts.entities / counts.records:.2f} a record: {types}"
    changes = [f"{count:,} {name.replace('_', ' ')}" for name, count in counts.entity_changes.items() if count]
    if changes:
        yield f"            not as they were listed: {', '.join(changes)}"


def _time_text(summary: BuildSummary) -> str:
    if not summary.workers:
        return "already built"
    text = f"{summary.seconds:.1f} s on {counted(summary.workers, 'worker')}"
    if summary.units_reused:
        return f"{text}; finished before: {summary.units_reused} of {counted(summary.units, 'unit')}"
    counts, seconds = summary.manifest.statistics, summary.seconds * summary.workers
    if words := counts.found.get("words"):
        return f"{text}: {words / seconds:,.0f} words/s a core"
    if ENTITIES in summary.manifest.layers:  # the words of records without enough entities are not known
        records = counts.records + sum(counts.dropped.get(reason, 0) for reason in ("too_few_entities", "duplicates"))
        return f"{text}: {records / seconds:,.0f} records/s a core"
    text += f": {counts.sentences / seconds:,.0f} sentences/s"
    if counts.dropped.get("duplicates"):  # whose words are not known
        return f"{text} a core"
    return f"{text} and {counts.words / seconds:,.0f} words/s a core"


def _texts(command: TrainVocab) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        sources = resolve_sources(command.inputs, command.format, Path(folder))
        for source in sources:
            check_has_text(source, command.text_field)
        for index, source in enumerate(sources):
            for unit in read_units(source, index, text_field=command.text_field):
                documents, bad_lines = parse_documents(unit, source.format, command.text_field)
                if bad_lines:
                    raise UserError(f"{source.name}:{bad_lines[0].line}: {bad_lines[0].reason}")
                yield from documents
