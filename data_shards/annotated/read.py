"""A file of annotated data → documents or their sentences, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

from data_shards.annotated import (
    brat,
    characters,
    conll,
    docred,
    dygie,
    gliner,
    label_studio,
    spacy_docs,
    spe_program,
    trex,
    triples,
    unified,
)
from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.detect import FormatName, detect
from data_shards.annotated.document import Document
from data_shards.annotated.json_objects import Item, items_of
from data_shards.annotated.offset_trial import OffsetTrial
from data_shards.annotated.read_report import ReadReport
from data_shards.errors import UserError
from data_shards.input.format import format_of
from data_shards.input.stream import check_is_file, open_input
from data_shards.text.offset_units import OffsetUnit

_Reader = Callable[[Item, int, ReadReport], Document | None]


def read_documents(
    path: Path,
    format: FormatName | None = None,
    *,
    language: str = "en",
    offsets: OffsetUnit = "characters",
    keep_no_relation: bool = False,
) -> tuple[list[Document], ReadReport]:
    """All documents of a file, in memory; arguments and errors are those of `stream_documents`."""
    documents, report = stream_documents(
        path, format, language=language, offsets=offsets, keep_no_relation=keep_no_relation
    )
    return list(documents), report


def stream_documents(
    path: Path,
    format: FormatName | None = None,
    *,
    language: str = "en",
    offsets: OffsetUnit = "characters",
    keep_no_relation: bool = False,
) -> tuple[Iterator[Document], ReadReport]:
    """Read annotated sentences or documents, in any format.

    Args:
        path: the file or folder; `-` is standard input.
        format: what it is in; told by its first item if not given.
        language: whose rules cut what is given as text, not as words (a spaCy language code).
        offsets: what the offsets of entities in such a text count.
        keep_no_relation: whether a pair that is labelled as one without a relation (NR) is a fact of that type.

    Returns:
        Its documents, one at a time, and a report with the place of each, which counts what has no place in a
        document, and is complete when all documents are read.

    Raises:
        UserError: it cannot be read, is in no known format, or something in it cannot be right; names line or item.
    """
    path = Path(path)
    items = items_of_path(path, format)
    first = next(items, None)
    if first is None:
        raise UserError(f"{path} is empty or an empty list: there is nothing to read")
    report = ReadReport(
        path,
        _format_of(first, format),
        format_is_given=format is not None,
        keeps_no_relation=keep_no_relation,
    )
    if report.format == "docred":
        report.relation_names |= docred.load_relation_names(path.parent)
    read = readers(offsets, OffsetTrial(offsets, language))[report.format]

    def documents() -> Iterator[Document]:
        for index, item in enumerate(chain([first], items)):
            report.documents += 1
            if (document := read(item, index, report)) is not None:
                report.places.append(item.where)
                yield _with_relation_names(document, report.relation_names)

    return documents(), report


def kind_of_no_file(path: Path) -> str:
    """What a path is whose items are not read from a file of lines or JSON: a folder of brat, a DocBin; else ''."""
    if brat.is_brat_folder(path):
        return "a folder of brat"
    return "a DocBin of spaCy" if path.suffix == spacy_docs.ENDING else ""


def items_of_path(path: Path, format: FormatName | None = None) -> Iterator[Item]:
    """The items of a file, or of a folder of brat, in any format; memory is that of one (of a DocBin, of all).

    Args:
        path: the file or folder; `-` is standard input.
        format: what it is in; needed only for columns whose first rows do not look like words with tags.

    Raises:
        UserError: it cannot be read.
    """
    if path.is_dir() and (format == "brat" or brat.is_brat_folder(path)):
        yield from brat.items_of_folder(path)
    elif path.suffix == spacy_docs.ENDING or format == "spacy":
        check_is_file(str(path))
        yield from spacy_docs.items_of_file(path)
    elif path.is_dir():
        raise UserError(f"{path} is a folder: name the files in it (a folder of brat has .ann files)")
    elif path.suffix == ".ann":
        raise UserError(f"{path} is annotations of brat: name their folder, {path.parent}")
    else:
        with open_input(path) as stream:
            is_conll = format == "conll" or format_of(stream) == "bio"
            yield from conll.items_of(stream) if is_conll else items_of(stream)


def _format_of(first: Item, given: FormatName | None) -> FormatName:
    found = first.format
    if given is None:
        return found or detect(first)
    if given != found and (found is not None or given in ("brat", "conll", "spacy")):
        is_of = f", but of format {found}" if found else ""
        raise UserError(f"{first.where} is not of format {given}{is_of}: leave --format out, or name another")
    return given


def _with_relation_names(document: Document, names: Mapping[str, str]) -> Document:
    """The document with names of relations in place of their codes; codes without a name stay codes."""
    if not names:
        return document
    return document._replace(
        facts=tuple(fact._replace(type=names.get(fact.type, fact.type)) for fact in document.facts)
    )


def read_annotated(
    path: Path, format: FormatName | None = None, *, language: str = "en", offsets: OffsetUnit = "characters"
) -> tuple[list[AnnotatedSentence], ReadReport]:
    """The sentences of a file's documents; the report has the place of each, and counts what has none in them.

    Args and errors are those of `read_documents`.
    """
    documents, report = read_documents(path, format, language=language, offsets=offsets)
    warn_of_offsets(documents, report, offsets, language)
    places, report.places = report.places, []
    sentences: list[AnnotatedSentence] = []
    for document, where in zip(documents, places, strict=True):
        found = document.sentences(language, report.findings)
        sentences += found
        report.places += [where] * len(found)
    report.sentences = len(sentences)
    return sentences, report


def warn_of_offsets(documents: list[Document], report: ReadReport, offsets: OffsetUnit, language: str) -> None:
    """Add a warning to a report if the offsets of its documents seem to count something else."""
    trial = OffsetTrial(offsets, language)
    for document, where in zip(documents, report.places, strict=True):
        trial.add(document, report.place(where))
    report.warnings += trial.warnings(str(report.path))


def readers(offsets: OffsetUnit, trial: OffsetTrial) -> dict[str, _Reader]:
    """The reader of each format: (item, its number in the file, report) → document, or None for a text to pass over.

    Args:
        offsets: what the offsets of entities in a text count.
        trial: says what else they may count, if they cannot be right.
    """
    return {
        "unified": unified.read,
        "spert": unified.read,
        "dygie": dygie.read,
        "spe": spe_program.read,
        "docred": docred.read,
        "trex": trex.read,
        "characters": partial(characters.read, offsets=offsets, trial=trial),
        "label_studio": partial(label_studio.read, offsets=offsets, trial=trial),
        "gliner": gliner.read,
        "glirel": gliner.read,
        "triples": triples.read,
        "brat": partial(brat.read, offsets=offsets, trial=trial),
        "conll": conll.read,
        "spacy": spacy_docs.read,
    }
