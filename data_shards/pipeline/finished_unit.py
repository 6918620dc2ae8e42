"""A unit of work → one shard, whole or not there, and a marker that says it is finished.

The marker lets a killed build go on: it holds what the unit was made of (a hash of the input and of all settings that
decide bytes) and what came out.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from data_shards.files import explain_write_errors, is_whole, sha256_of, write_atomically
from data_shards.pipeline.corpus import BadLine
from data_shards.shards.manifest import Shard, Statistics, layer_sizes
from data_shards.shards.record import BLOCKED, ENTITIES, RELATIONS, Records, block_members

MARKER_FOLDER = ".units"
TOKENIZER_FOLDER = "tokenizer"
_REPORTED_BAD_LINES = 5


@dataclass(frozen=True)
class ShardFormat:
    """How records become a shard."""

    block_records: int
    max_pieces: int
    vocab_size: int


@dataclass(frozen=True)
class UnitContent:
    """Records and statistics that a unit gives."""

    records: Records
    statistics: Statistics
    bad_lines: Sequence[BadLine] = ()
    types: int = 0
    """Number of types of entities."""
    repeated: Mapping[str, int] = field(default_factory=dict)
    """Sentences that occur several times, and how often: the most frequent ones."""
    relations: int = 0
    """Number of kinds of relations."""


@dataclass(frozen=True)
class FinishedUnit:
    """What became of a unit; `shard` is None if no sentence was kept."""

    input_index: int
    unit_index: int
    made_from: str
    shard: Shard | None
    statistics: Statistics
    bad_lines: tuple[BadLine, ...] = ()
    entity_counts: tuple[int, ...] = ()
    """Entities of each type."""
    repeated: Mapping[str, int] = field(default_factory=dict)
    """Sentences that occur several times, and how often."""
    relation_counts: tuple[int, ...] = ()
    """Facts of each relation."""


def finish_unit(
    out: Path,
    name: str,
    place: tuple[int, int],
    made_from: str,
    make: Callable[[], UnitContent],
    shard_format: Callable[[], ShardFormat],
) -> tuple[FinishedUnit, bool]:
    """Make a unit's shard and marker, or find them; the second value tells whether they were found.

    Args:
        out: folder of the dataset.
        name: name of the shard, without ending.
        place: number of the input, and of the unit in it.
        made_from: hash of the input and of all settings that decide bytes.
        make: makes the records.
        shard_format: asked only if there are records to write.

    Raises:
        UserError: the folder is full or cannot be written.
    """
    marker = out / MARKER_FOLDER / f"{name}.json"
    found = _read_marker(marker, out, made_from)
    if found:
        return found, True
    content = make()
    with explain_write_errors(out):
        shard = _write_shard(out, name, content.records, shard_format()) if len(content.records) else None
        bad_lines = tuple(content.bad_lines[:_REPORTED_BAD_LINES])
        finished = FinishedUnit(
            *place, made_from, shard, content.statistics, bad_lines, _entity_counts(content), content.repeated,
            _relation_counts(content),
        )  # fmt: skip
        write_atomically(marker, json.dumps(asdict(finished)).encode())
    return finished, False


def _entity_counts(content: UnitContent) -> tuple[int, ...]:
    if ENTITIES not in content.records.layers:
        return ()
    return tuple(np.bincount(content.records.entities.values[:, 2], minlength=content.types).tolist())


def _relation_counts(content: UnitContent) -> tuple[int, ...]:
    if RELATIONS not in content.records.layers:
        return ()
    numbers = content.records.layers[RELATIONS].values[:, 2]
    return tuple(np.bincount(numbers[numbers != BLOCKED], minlength=content.relations).tolist())


def _read_marker(marker: Path, out: Path, made_from: str) -> FinishedUnit | None:
    try:
        finished = TypeAdapter(FinishedUnit).validate_json(marker.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if finished.made_from != made_from:
        return None
    shard = finished.shard
    if shard and not is_whole(out / shard.url, shard.filesize, shard.sha256):
        return None
    return finished


def _write_shard(out: Path, name: str, records: Records, shard_format: ShardFormat) -> Shard:
    blocks = [
        block_members(block, vocab_size=shard_format.vocab_size, max_pieces=shard_format.max_pieces)
        for block in _cut_blocks(records, shard_format.block_records)
    ]
    content = _tar(name, blocks)
    write_atomically(out / f"{name}.tar", content)
    return Shard(
        url=f"{name}.tar",
        nsamples=len(blocks),
        filesize=len(content),
        records=len(records),
        sha256=sha256_of(content),
        **layer_sizes(records),
    )


def _cut_blocks(records: Records, block_records: int) -> Iterator[Records]:
    for start in range(0, len(records), block_records):
        yield records.take(np.arange(start, min(start + block_records, len(records))))


def _tar(name: str, blocks: Sequence[dict[str, bytes]]) -> bytes:
    from webdataset import TarWriter  # imports torch if that is installed: only workers pay for it

    buffer = io.BytesIO()
    # Times, owners and modes are fixed: the same records must give the same bytes.
    with TarWriter(buffer, encoder=False, mtime=0, user="root", group="root", mode=0o644) as writer:
        for number, members in enumerate(blocks):
            writer.write({"__key__": f"{name}-{number:04}", **members})
    return buffer.getvalue()
