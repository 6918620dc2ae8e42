"""A file of annotated data → sentences, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

from data_shards.annotated import characters, docred, dygie, spe_program, unified
from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.detect import FormatName, detect
from data_shards.annotated.items import Item, read_items
from data_shards.annotated.read_report import ReadReport
from data_shards.errors import UserError
from data_shards.offset_trial import OffsetTrial
from data_shards.offset_units import OffsetUnit

_Reader = Callable[[Item, int, ReadReport], list[AnnotatedSentence]]


def read_annotated(
    path: Path, format: FormatName | None = None, *, language: str = "en", offsets: OffsetUnit = "characters"
) -> tuple[list[AnnotatedSentence], ReadReport]:
    """Read a file of annotated sentences or documents: JSON or JSON lines, compressed or not.

    Args:
        path: the file; `-` is standard input.
        format: what it is in; told by its first item if not given.
        language: whose rules cut what is given as text, not as words (a spaCy language code).
        offsets: what the offsets of entities in such a text count.

    Raises:
        UserError: it cannot be read, is in no known format, or something in it cannot be right; names line or item.
    """
    path = Path(path)
    items = read_items(path)
    first = next(items, None)
    if first is None:
        raise UserError(f"{path} is an empty list: there is nothing to read")
    report = ReadReport(path, format or detect(first), format_is_given=format is not None)
    trial = OffsetTrial(offsets, language)
    read = _reader(report.format, path, language, offsets, trial)
    sentences: list[AnnotatedSentence] = []
    for index, item in enumerate(chain([first], items)):
        found = read(item, index, report)
        sentences += found
        report.documents += 1
        report.places += [item.where] * len(found)
    report.sentences = len(sentences)
    report.warnings += trial.warnings(str(path))
    return sentences, report


def _reader(format: str, path: Path, language: str, offsets: OffsetUnit, trial: OffsetTrial) -> _Reader:
    if format == "docred":
        return partial(docred.read, relation_names=docred.load_relation_names(path.parent))
    if format == "characters":
        return partial(characters.read, language=language, offsets=offsets, trial=trial)
    readers: dict[str, _Reader] = {
        "unified": unified.read,
        "spert": unified.read,
        "dygie": dygie.read,
        "spe": spe_program.read,
    }
    return readers[format]
