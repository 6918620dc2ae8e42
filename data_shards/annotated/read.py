"""A file of annotated data → documents or their sentences, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

from data_shards.annotated import characters, docred, dygie, spe_program, trex, unified
from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.detect import FormatName, detect
from data_shards.annotated.document import Document
from data_shards.annotated.json_objects import Item, read_items
from data_shards.annotated.offset_trial import OffsetTrial
from data_shards.annotated.read_report import ReadReport
from data_shards.errors import UserError
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
    """Read a file of annotated sentences or documents: JSON or JSON lines, compressed or not.

    Args:
        path: the file; `-` is standard input.
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
    items = read_items(path)
    first = next(items, None)
    if first is None:
        raise UserError(f"{path} is an empty list: there is nothing to read")
    report = ReadReport(
        path,
        format or detect(first),
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
    places, report.places = report.places, []
    trial = OffsetTrial(offsets, language)
    sentences: list[AnnotatedSentence] = []
    for document, where in zip(documents, places, strict=True):
        trial.add(document, report.place(where))
        found = document.sentences(language, report.findings)
        sentences += found
        report.places += [where] * len(found)
    report.sentences = len(sentences)
    report.warnings += trial.warnings(str(path))
    return sentences, report


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
    }
