"""One work unit → one shard, whole or not there, and a marker that says it is finished.

The marker lets a killed build go on: it holds what the unit was made of (a hash of the raw lines and of all settings
that decide bytes) and what came out.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from data_shards.corpus import BadLine, Source, WorkUnit, parse_documents
from data_shards.files import explain_write_errors, sha256_of, sha256_of_file, write_atomically
from data_shards.manifest import Shard, Statistics
from data_shards.record import Records, block_members
from data_shards.sentences import split_sentences
from data_shards.word_pieces import WordPieces

MARKER_FOLDER = ".units"
TOKENIZER_FOLDER = "tokenizer"
_SPECIALS_PER_RECORD = 2  # [CLS] and [SEP]
_REPORTED_BAD_LINES = 5


@dataclass(frozen=True)
class UnitPlan:
    """All a worker needs to build units: `settings` is the fingerprint of what decides bytes."""

    out: Path
    sources: tuple[Source, ...]
    settings: str
    text_field: str
    language: str
    block_records: int
    min_words: int
    max_words: int
    max_pieces: int

    def shard_name(self, unit: WorkUnit) -> str:
        """The name a unit's shard has in every build: by input and by unit."""
        width = max(2, len(str(len(self.sources) - 1)))
        return f"{unit.input_index:0{width}}-{unit.unit_index:06}"


@dataclass(frozen=True)
class FinishedUnit:
    """What became of a unit; `shard` is None if no sentence was kept."""

    input_index: int
    unit_index: int
    made_from: str
    shard: Shard | None
    statistics: Statistics
    bad_lines: tuple[BadLine, ...]


def build_unit(plan: UnitPlan, unit: WorkUnit) -> tuple[FinishedUnit, bool]:
    """Build a unit, or find it finished; the second value tells whether it was found.

    Raises:
        UserError: the output folder is full or cannot be written.
    """
    made_from = sha256_of(f"{plan.settings} {plan.sources[unit.input_index].format} ".encode() + unit.lines)
    marker = plan.out / MARKER_FOLDER / f"{plan.shard_name(unit)}.json"
    found = _read_marker(marker, plan.out, made_from)
    if found:
        return found, True
    records, statistics, bad_lines = _records_of_unit(plan, unit)
    with explain_write_errors(plan.out):
        shard = _write_shard(plan, plan.shard_name(unit), records) if len(records) else None
        finished = FinishedUnit(
            unit.input_index, unit.unit_index, made_from, shard, statistics, tuple(bad_lines[:_REPORTED_BAD_LINES])
        )
        write_atomically(marker, json.dumps(asdict(finished)).encode())
    return finished, False


def _read_marker(marker: Path, out: Path, made_from: str) -> FinishedUnit | None:
    try:
        finished = TypeAdapter(FinishedUnit).validate_json(marker.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if finished.made_from != made_from:
        return None
    shard = finished.shard
    if shard and not _is_whole(out / shard.url, shard):
        return None
    return finished


def _is_whole(path: Path, shard: Shard) -> bool:
    return path.is_file() and path.stat().st_size == shard.filesize and sha256_of_file(path) == shard.sha256


def _records_of_unit(plan: UnitPlan, unit: WorkUnit) -> tuple[Records, Statistics, list[BadLine]]:
    text_format = plan.sources[unit.input_index].format
    documents, bad_lines = parse_documents(unit, text_format, plan.text_field)
    if text_format == "text":
        sentences = [sentence for document in documents if (sentence := document.strip())]
    else:
        sentences = [sentence for document in documents for sentence in split_sentences(document, plan.language)]
    records = _word_pieces(str(plan.out / TOKENIZER_FOLDER), plan.settings, plan.language).encode_sentences(sentences)
    kept, dropped = _filter(records, plan)
    statistics = Statistics(
        documents=len(documents),
        sentences=len(sentences),
        records=len(kept),
        words=len(kept.word_starts.values),
        pieces=len(kept.pieces.values),
        dropped=dropped,
        bad_lines=len(bad_lines),
    )
    return kept, statistics, bad_lines


@lru_cache(maxsize=1)
def _word_pieces(folder: str, settings: str, language: str) -> WordPieces:
    """One per worker and build (`settings` tells builds apart); it remembers the words it has cut."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core per worker is the build's own plan
    return WordPieces.load(folder, language=language)


def _filter(records: Records, plan: UnitPlan) -> tuple[Records, dict[str, int]]:
    """Records within the limits; those outside are dropped whole and counted under the first reason that holds."""
    words, pieces = records.word_starts.lengths, records.pieces.lengths + _SPECIALS_PER_RECORD
    reasons = {
        "too_few_words": words < plan.min_words,
        "too_many_words": words > plan.max_words,
        "too_many_pieces": (words >= plan.min_words) & (words <= plan.max_words) & (pieces > plan.max_pieces),
    }
    kept = np.flatnonzero(~np.logical_or.reduce(list(reasons.values())))
    return records.take(kept), {reason: int(mask.sum()) for reason, mask in reasons.items()}


def _write_shard(plan: UnitPlan, name: str, records: Records) -> Shard:
    tokenizer = _word_pieces(str(plan.out / TOKENIZER_FOLDER), plan.settings, plan.language)
    blocks = [
        block_members(block, vocab_size=tokenizer.vocab_size, max_pieces=plan.max_pieces)
        for block in _cut_blocks(records, plan.block_records)
    ]
    content = _tar(name, blocks)
    write_atomically(plan.out / f"{name}.tar", content)
    return Shard(
        url=f"{name}.tar",
        nsamples=len(blocks),
        filesize=len(content),
        records=len(records),
        words=len(records.word_starts.values),
        pieces=len(records.pieces.values),
        sha256=sha256_of(content),
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
