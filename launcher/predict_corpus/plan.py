"""What every process that predicts a corpus knows: inputs, settings, and which shard holds what.

    inputs ──▶ parts: neighbouring inputs, together at least 64 MiB (a big input is one alone)
    part   ──▶ units: fixed numbers of neighbouring documents
    unit   ──▶ one shard, PART-UNIT.jsonl

All is decided by the inputs, before any parallelism. Texts of two units never meet in a batch. So shards have the same
bytes whoever makes them, in whatever order, and however often the command was killed meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from data_shards.pipeline.corpus import UNIT_BYTES, Source, WorkUnit
from launcher.predict_input import located_documents

MARKER_FOLDER = ".units"
PART_BYTES = 64 << 20


@dataclass(frozen=True)
class Plan:
    """What to predict, how, and where to write it.

    Args:
        out: folder of the shards.
        sources: the inputs.
        text_field: field of a JSON object, or column of a table (Parquet, CSV, TSV), that holds the text.
        records_per_file: documents of a shard.
        max_bad_lines: that are passed over.
        model: folder of the extractor.
        settings: for `Extractor.from_pretrained`.
    """

    out: Path
    sources: tuple[Source, ...]
    text_field: str
    records_per_file: int
    max_bad_lines: int
    model: Path
    settings: Mapping[str, Any]

    @property
    def parts(self) -> list[range]:
        """Numbers of the sources of each part."""
        parts, first, size = [], 0, 0
        for number, source in enumerate(self.sources, start=1):
            size += source.size
            if size >= PART_BYTES or number == len(self.sources):
                parts.append(range(first, number))
                first, size = number, 0
        return parts


@dataclass(frozen=True)
class Unit:
    """Neighbouring documents of a part.

    Args:
        part: its number.
        number: number of the unit in the part.
        runs: of lines, one for each input.
        documents: how many there are.
        size: bytes of the inputs, as they are stored, that they take.
    """

    part: int
    number: int
    runs: tuple[WorkUnit, ...]
    documents: int
    size: int

    @property
    def name(self) -> str:
        """Name of the shard, without its file ending."""
        return f"{self.part:05}-{self.number:06}"

    def as_row(self) -> dict[str, Any]:
        """Plain values, for a Ray dataset."""
        runs = [(run.input_index, run.first_line, len(run.lines)) for run in self.runs]
        about = {name: getattr(self, name) for name in ("part", "number", "documents", "size")}
        lines = b"".join(run.lines for run in self.runs)
        # numpy, in between, takes zeros from the end of bytes: they end with something else.
        return {"about": json.dumps(about | {"runs": runs}), "lines": lines + b"\n"}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Unit:
        """The unit that `as_row` turned into a row."""
        about = json.loads(row["about"])
        places = about.pop("runs")
        ends = accumulate(length for _, _, length in places)
        runs = (
            WorkUnit(index, about["number"], first_line, row["lines"][end - length : end])
            for (index, first_line, length), end in zip(places, ends, strict=True)
        )
        return cls(runs=tuple(runs), **about)


class _Begun:
    """A unit that grows."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, int, list[bytes]]] = []  # number of the input, first line, documents
        self.documents = self.bytes = 0

    def add(self, index: int, line: int, document: bytes, is_text: bool) -> None:
        if not self.runs or self.runs[-1][0] != index:
            if not is_text:
                return  # an empty line: the run begins after it
            self.runs.append((index, line, []))
        self.runs[-1][2].append(document)
        self.documents += is_text
        self.bytes += len(document)

    def unit(self, part: int, number: int, size: int) -> Unit:
        runs = (WorkUnit(index, number, line, b"".join(documents)) for index, line, documents in self.runs)
        return Unit(part, number, tuple(runs), self.documents, size)


def read_part(plan: Plan, part: int) -> Iterator[Unit]:
    """The units of a part, in order.

    Args:
        plan: plan of the corpus.
        part: number of the part.

    Raises:
        UserError: an input cannot be read to its end.
    """
    begun, number, read_before, read, before_input = _Begun(), 0, 0, 0, 0
    for index in plan.parts[part]:
        source, line = plan.sources[index], 1
        with source.open() as stream:
            for document, position in located_documents(stream, source.format, plan.text_field):
                begun.add(index, line, document, source.format == "text" or bool(document.strip()))
                line += document.count(b"\n")
                read = before_input + position
                if begun.documents == plan.records_per_file or begun.bytes >= UNIT_BYTES:
                    yield begun.unit(part, number, read - read_before)
                    begun, number, read_before = _Begun(), number + 1, read
        before_input += source.size
    if begun.documents:
        yield begun.unit(part, number, before_input - read_before)
