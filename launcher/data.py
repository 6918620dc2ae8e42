"""`spe data …`: look at annotated data before training on them, split or convert them, or make questions of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.detect import FormatName
from data_shards.annotated.read import read_annotated, read_documents, warn_of_offsets
from data_shards.annotated.shard_sentences import annotated_sentences
from data_shards.annotated.split import split_file
from data_shards.annotated.unified import write_file
from data_shards.annotated.write import (
    OF_TEXTS,
    WrittenFormat,
    documents_of,
    format_of_out,
    write_documents,
    write_sentences,
)
from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.shards.manifest import MANIFEST_NAME
from data_shards.shards.reader import ShardReader
from data_shards.text.offset_units import OffsetUnit
from launcher.arguments import parse_arguments
from launcher.data_tables import check_json, check_text
from launcher.output import print_json
from spe_dist.config import Count
from spe_dist.extraction.data.data_statistics import is_unrelated

_SPECIAL_PIECES = 2  # before and after a sentence


@dataclass(frozen=True)
class Check:
    """Print statistics of annotated data: types, lengths, overlaps, directions, duplicates, differences."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Files to check: JSON or JSON lines in any format of docs/annotated_data.md, CoNLL columns, a spaCy DocBin
    (.spacy), or a brat folder; files may be compressed. - is standard input."""
    format: FormatName | None = None
    """Format of the files. Default: recognised by their first item."""
    language: str = "en"
    """Language (spaCy code) whose rules split text with character offsets into words."""
    offsets: OffsetUnit = "characters"
    """Unit of entity offsets in a text: characters (Unicode code points), utf16 (units of JavaScript, Java and C#) or
    bytes (of UTF-8)."""
    tokenizer: str | None = None
    """Also count pieces with this tokenizer: folder, vocabulary file, Hugging Face name or debug."""
    max_pieces: int = 512
    """Longest sequence of the encoder, including special pieces."""
    triples: bool = False
    """Show how often each relation occurs between each pair of entity types, even if there are many."""
    json: bool = False
    """Print JSON instead of tables; what was left out of the files goes to standard error."""


@dataclass(frozen=True)
class Convert:
    """Write annotated data in another format, compressed if the name ends in .gz or .bz2.

    The output counts what the format cannot hold. If the input is a dataset of spe shards sentences, the facts of its
    knowledge base become relations between all mentions of their entities.
    """

    source: tyro.conf.Positional[Path]
    """File, brat folder, or folder of a dataset of sentences to read; - is standard input."""
    out: tyro.conf.Positional[Path]
    """File or brat folder to write; a folder must be empty or new."""
    to: WrittenFormat | None = None
    """Format to write. Default: by the file ending (.conll, .bio: conll; .spacy: spacy; a name without ending: a brat
    folder), else unified."""
    format: FormatName | None = None
    """Format of the input. Default: recognised by its first item."""
    without_relations: tuple[str, ...] = ()
    """Relation types to leave out, such as one that stands for "no relation"."""
    only_unrelated: bool = False
    """Write only sentences with two or more entities and no relation, for measuring false relations."""
    language: str = "en"
    """Language (spaCy code) whose rules split text with character offsets into words."""
    offsets: OffsetUnit = "characters"
    """Unit of entity offsets in a text: characters (Unicode code points), utf16 (units of JavaScript, Java and C#) or
    bytes (of UTF-8)."""


@dataclass(frozen=True)
class WikihopFromDocred:
    """Make multi-choice questions from documents with entities and relations: a substitute for WikiHop, in its format.

    Each head and relation with exactly one tail in a document makes a question. Its candidates are the entities of the
    tail's type, without the head; its texts are the document's sentences. Names of relations are read from
    rel_info.json in the folder of the file.
    """

    source: tyro.conf.Positional[Path]
    """File to read, in DocRED's format or another one that gives entities by their mentions; - is standard input."""
    out: Path
    """File to write, compressed if the name ends in .gz or .bz2."""
    masked: bool = False
    """Replace all mentions of candidates by ___MASK_0___ to ___MASK_99___, numbered at random in each question."""
    seed: Count = 1
    """Random seed for the numbers of masks."""
    format: FormatName | None = None
    """Format of the input. Default: recognised by its first item."""
    language: str = "en"
    """Language (spaCy code) whose rules split a document that is a text into sentences."""


@dataclass(frozen=True)
class Split:
    """Split a file at random into train, dev and test: SQuAD by article, other JSON and JSON lines by item.

    Items of one document (field document) or context (field context) stay together and count as one item.
    """

    source: tyro.conf.Positional[Path]
    """File to read; - is standard input."""
    out: Path
    """Folder to write train.json, dev.json and test.json (SQuAD) or train.jsonl, dev.jsonl and test.jsonl to."""
    train: float = 0
    """Number of articles or items in the training file or, below 1, their share. 0: no such file."""
    dev: float = 0
    """Number or share of articles or items in the dev file, which selects the best epoch. 0: no such file."""
    test: float = 0
    """Number or share of articles or items in the test file. 0: no such file."""
    seed: int = 42
    """Random seed of the split."""


Command = (
    Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[WikihopFromDocred, tyro.conf.subcommand("wikihop-from-docred")]
    | Annotated[Split, tyro.conf.subcommand("split")]
)


def main(argv: list[str]) -> None:
    """Run `spe data` with the arguments after these two words."""
    command: Command = parse_arguments(Command, argv, prog="spe data", description=__doc__)
    match command:
        case Check():
            run_check(command)
        case Convert():
            run_convert(command)
        case WikihopFromDocred():
            run_wikihop_from_docred(command)
        case Split():
            sizes = {"train": command.train, "dev": command.dev, "test": command.test}
            for file, count in split_file(command.source, command.out, sizes, command.seed).items():
                print(f"{file}: {count:,}")


def run_convert(command: Convert) -> None:
    """Convert a file or folder and say what became of it."""
    form = format_of_out(command.out, command.to)
    _check_out(command.out, command.source)
    if (command.source / MANIFEST_NAME).is_file():
        sentences, read = list(annotated_sentences(ShardReader(command.source))), []
    elif form in OF_TEXTS and not command.only_unrelated:
        _convert_documents(command, form)
        return
    else:
        sentences, report = read_annotated(
            command.source, command.format, language=command.language, offsets=command.offsets
        )
        read = report.lines()
    sentences = _without_relations(sentences, command.without_relations, command.source)
    if command.only_unrelated:
        sentences = [sentence for sentence in sentences if is_unrelated(sentence)]
        if not sentences:
            raise UserError(
                f"{command.source} has no sentence with two or more entities and without relations: leave out "
                "--only-unrelated, or name another file"
            )
    if form in OF_TEXTS:
        lost = write_documents(documents_of(sentences), command.out, form, command.language)
    else:
        lost = write_sentences(sentences, command.out, form)
    print("\n".join([*read, *_written(command.out, len(sentences), "sentences", form, lost)]))


def _convert_documents(command: Convert, form: WrittenFormat) -> None:
    """Convert to a format that holds whole texts, so that nothing is cut into sentences."""
    documents, report = read_documents(
        command.source, command.format, language=command.language, offsets=command.offsets
    )
    warn_of_offsets(documents, report, command.offsets, command.language)
    _check_types(command.without_relations, {fact.type for one in documents for fact in one.facts}, command.source)
    documents = [
        one._replace(facts=tuple(fact for fact in one.facts if fact.type not in command.without_relations))
        for one in documents
    ]
    lost = write_documents(documents, command.out, form, command.language)
    read = f"{counted(len(documents), 'text')} in {counted(report.documents, 'item')}"
    told = [f"{command.source}: {read}, format {report.format}"]
    print("\n".join([*told, *report.lines()[1:], *_written(command.out, len(documents), "texts", form, lost)]))


def _written(out: Path, count: int, units: str, form: WrittenFormat, lost: Mapping[str, int]) -> list[str]:
    return [f"{out}: {count:,} {units}, format {form}", *(f"  {count:,} {what}" for what, count in lost.items())]


def run_wikihop_from_docred(command: WikihopFromDocred) -> None:
    """Make questions of a file, and say what they are and what became of the rest."""
    from spe_dist.multi_choice.from_documents import ALONE, SEVERAL_TAILS, TOO_MANY, questions_of_documents
    from spe_dist.multi_choice.occurrences import nearest_mention
    from spe_dist.multi_choice.question import write_questions

    documents, report = read_documents(command.source, command.format, language=command.language)
    left_out: Counter[str] = Counter()
    questions = list(
        questions_of_documents(documents, left_out, masked=command.masked, seed=command.seed, language=command.language)
    )
    if not questions:
        raise UserError(
            f"{command.source} has no head and relation with one tail among several candidates: give "
            "documents with several entities of a type"
        )
    _check_out(command.out, command.source)
    write_file(command.out, write_questions(questions))
    chance = sum(1 / len(question.candidates) for question in questions) / len(questions)
    nearest = sum(nearest_mention(question) == question.answer for question in questions) / len(questions)
    print(f"{command.source}: {counted(len(documents), 'document')}, format {report.format}")
    if report.format == "docred" and not report.relation_names:
        print("warning: there is no rel_info.json beside the file: queries have codes of relations instead of names")
    print(
        f"left out: {left_out[SEVERAL_TAILS]:,} heads and relations with several tails, {left_out[ALONE]:,} without "
        f"another candidate, {left_out[TOO_MANY]:,} with more candidates than masks"
    )
    print(
        f"{command.out}: {counted(len(questions), 'question')}{', masked' if command.masked else ''}; "
        f"{chance:.1%} are right by chance, {nearest:.1%} by the nearest mention"
    )


def _check_out(out: Path, source: Path) -> None:
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"{out} is the input file: name another output file")


def _without_relations(
    sentences: list[AnnotatedSentence], types: Sequence[str], source: Path
) -> list[AnnotatedSentence]:
    _check_types(types, {relation.type for sentence in sentences for relation in sentence.relations}, source)
    return [
        replace(sentence, relations=tuple(one for one in sentence.relations if one.type not in types))
        for sentence in sentences
    ]


def _check_types(types: Sequence[str], there: set[str], source: Path) -> None:
    for type in types:
        if type not in there:
            known = ", ".join(map(repr, sorted(there))) or "none"
            raise UserError(f"{source} has no relations of type {type!r} to leave out; its types are: {known}")


def run_check(command: Check) -> None:
    """Print all tables for some files."""
    if not command.files:
        raise UserError("no input: name at least one file of annotated data")
    if len({file.resolve() for file in command.files}) < len(command.files):
        raise UserError("a file is named twice: name each file once")
    if command.json and (command.tokenizer or command.triples):
        raise UserError("--json has all triples and counts no pieces: remove --triples and --tokenizer")
    data: dict[str, list[AnnotatedSentence]] = {}
    places: dict[str, list[str]] = {}
    for name, file in zip(_short_names(command.files), command.files, strict=True):
        data[name], report = read_annotated(file, command.format, language=command.language, offsets=command.offsets)
        places[name] = report.places
        print("\n".join(report.lines()), file=sys.stderr if command.json else sys.stdout)
    if command.json:
        print_json(check_json(data))
        return
    pieces = _count_pieces(data, command.tokenizer) if command.tokenizer else None
    print()
    print(check_text(data, places, pieces, command.max_pieces, all_triples=command.triples))


def _count_pieces(data: Mapping[str, Sequence[AnnotatedSentence]], tokenizer: str) -> dict[str, list[int]]:
    from data_shards.text.word_pieces import WordPieces

    words = sorted({word for sentences in data.values() for sentence in sentences for word in sentence.words})
    lengths = WordPieces.load(tokenizer).encode_words(words).lengths
    pieces = dict(zip(words, lengths.tolist(), strict=True))
    return {
        name: [_SPECIAL_PIECES + sum(pieces[word] for word in sentence.words) for sentence in sentences]
        for name, sentences in data.items()
    }


def _short_names(files: Sequence[Path]) -> list[str]:
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]
