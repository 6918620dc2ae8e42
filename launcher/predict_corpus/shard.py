"""A unit → one shard of JSON lines, whole or not there, and a marker that says it is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from data_shards.files import explain_write_errors, is_whole, write_atomically, written_atomically
from data_shards.pipeline.corpus import cut_again
from launcher.predict_corpus.bad_lines import BadLines
from launcher.predict_corpus.counts import Counts
from launcher.predict_corpus.plan import MARKER_FOLDER, Plan, Unit
from launcher.predict_input import Item, items_of_documents
from launcher.predict_results import json_line, streamed

if TYPE_CHECKING:
    from spe_dist.extraction.predict.extractor import Extractor


@dataclass(frozen=True)
class Shard:
    """A finished shard.

    Args:
        file: its name.
        first_input: name of the input that its first text is from.
        first_line: line, row or item of it.
        counts: counts of its texts.
        bad_lines: lines of its inputs that were passed over.
        bad_line_examples: some of these, and what is wrong with them.
        bytes: size.
        sha256: SHA-256 of the content.
    """

    file: str
    first_input: str
    first_line: int
    counts: Counts
    bad_lines: int
    bad_line_examples: tuple[str, ...]
    bytes: int
    sha256: str

    def as_json(self) -> str:
        """The shard as JSON in ASCII: file names need not be valid Unicode."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Shard:
        """The shard that `as_json` wrote; raises ValueError if the text is something else."""
        return TypeAdapter(cls).validate_python(json.loads(text))


def find_shard(plan: Plan, unit: Unit) -> Shard | None:
    """What an earlier command made of a unit; None if it is not there, or not whole."""
    try:
        found = Shard.of_json((plan.out / MARKER_FOLDER / f"{unit.name}.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found if is_whole(plan.out / found.file, found.bytes, found.sha256) else None


def write_shard(
    plan: Plan,
    unit: Unit,
    extractor: Extractor,
    count: Callable[[int], object],
    told: Callable[[int], object] | None = None,
) -> Shard:
    """Predict a unit's texts and write its shard, then its marker; either is whole and on the disk, or not there.

    Args:
        plan: plan of the corpus.
        unit: unit of the plan to predict.
        extractor: to predict with.
        count: is told of each text, by its number of characters.
        told: called with numbers of sentences as they are read.

    Raises:
        UserError: there are too many bad lines, or the folder is full or cannot be written.
    """
    bad_lines = BadLines(plan.max_bad_lines)
    counts, size, digest = Counts(), 0, hashlib.sha256()
    path = plan.out / f"{unit.name}.jsonl"
    with explain_write_errors(plan.out):
        with written_atomically(path) as file:
            for fields, text in streamed(extractor, _items(plan, unit, bad_lines), told):
                line = json_line(fields, text).encode()
                file.write(line)
                digest.update(line)
                size += len(line)
                counts.add(text)
                count(len(text.text))
        first = unit.runs[0]
        shard = Shard(
            file=path.name,
            first_input=plan.sources[first.input_index].name,
            first_line=first.first_line,
            counts=Counts.sum([counts]),
            bad_lines=bad_lines.count,
            bad_line_examples=tuple(bad_lines.examples),
            bytes=size,
            sha256=digest.hexdigest(),
        )
        write_atomically(plan.out / MARKER_FOLDER / f"{unit.name}.json", shard.as_json().encode())
    return shard


def load_extractor(plan: Plan) -> Extractor:
    """The extractor of a plan.

    Raises:
        UserError: it cannot be loaded, or not with these settings.
    """
    from spe_dist.extraction.predict.extractor import Extractor

    return Extractor.from_pretrained(plan.model, **plan.settings)


def _items(plan: Plan, unit: Unit, bad_lines: BadLines) -> Iterator[Item]:
    for run in unit.runs:
        source = plan.sources[run.input_index]
        documents = cut_again(run.lines, source.format)
        yield from items_of_documents(
            documents, source.label, source.format, plan.text_field, bad_lines, run.first_line
        )
