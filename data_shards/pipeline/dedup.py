"""A dataset → the same without duplicates: of records with equal pieces the first one is kept; see `derive`.

all shards ──keys, in order──▶ records whose key came before (one process) ──▶ shards without them (all workers)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_shards.files import explain_write_errors
from data_shards.pipeline.derive import make_shards
from data_shards.pipeline.finished_unit import UnitContent
from data_shards.shards.manifest import Manifest, Statistics, layer_sizes
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import Records


def text_keys(records: Records) -> NDArray[np.uint64]:
    """A 64-bit hash of the pieces of each record, [N]: the sum of random numbers that stand for a piece at a place.

    Among 100 million different records the chance that any two have the same key is 3 in 10,000.
    """
    pieces = records.pieces
    places = np.arange(len(pieces.values), dtype=np.int64) - np.repeat(pieces.offsets[:-1], pieces.lengths)
    numbers = _scrambled(places.astype(np.uint64) << np.uint64(32) | pieces.values.astype(np.uint64))
    ends = np.zeros(len(numbers) + 1, dtype=np.uint64)
    np.cumsum(numbers, out=ends[1:])  # modulo 2^64, as are the differences
    return ends[pieces.offsets[1:]] - ends[pieces.offsets[:-1]]


def _scrambled(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The outputs of SplitMix64 (Steele, Lea and Flood, 2014) for these counts, one to one."""
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def find_duplicates(source: ShardReader) -> NDArray[np.int64]:
    """Ids of the records whose pieces equal those of an earlier one, ascending. Takes 24 bytes of memory per record."""
    keys = np.empty(len(source), dtype=np.uint64)
    for shard, (start, end) in enumerate(pairwise(source.first_ids)):
        keys[start:end] = text_keys(source.read_shard(shard))
    order = np.argsort(keys, kind="stable")  # of equal keys the first record's comes first
    keys = keys[order]
    return np.sort(order[1:][keys[1:] == keys[:-1]])


@dataclass(frozen=True)
class DedupStep:
    """Leaves records out of a shard."""

    settings: Mapping[str, Any]
    duplicates: NDArray[np.int64]
    """Ids of the records to leave out, ascending."""

    def max_pieces(self, source: Manifest) -> int:
        """The same as in the source."""
        return source.max_pieces

    def content(self, source: ShardReader, shard: int) -> UnitContent:
        """The records that are kept."""
        records, bounds = source.read_shard(shard), source.first_ids[shard : shard + 2]
        here = slice(*np.searchsorted(self.duplicates, bounds))
        kept = records.take(np.delete(np.arange(len(records)), self.duplicates[here] - bounds[0]))
        unknown = source.manifest.tokenizer.special_ids.unk
        statistics = Statistics(
            records=len(kept),
            dropped={"duplicates": len(records) - len(kept)},
            unknown_pieces=int((kept.pieces.values == unknown).sum()),
            **layer_sizes(kept),
        )
        types, relations = len(source.manifest.entity_types), len(source.manifest.relation_types)
        return UnitContent(kept, statistics, types=types, relations=relations)


def drop_duplicates(built: Manifest, folder: Path, out: Path, workers: int | None) -> Manifest:
    """Write the shards of a dataset without duplicates, or continue an earlier attempt.

    Args:
        built: manifest of the dataset with duplicates; it is written here.
        folder: folder of the shards with duplicates.
        out: folder for the shards without duplicates.
        workers: processes; all cores if not given.

    Returns:
        The manifest of the dataset without duplicates, which is not written yet.

    Raises:
        UserError: a shard was damaged meanwhile, or the folder cannot be written.
    """
    with explain_write_errors(out):
        built.save(folder)
    source = ShardReader(folder)
    # Whether a record is a duplicate depends on all earlier shards.
    step = DedupStep({"dedup": True, "of": built.fingerprint}, find_duplicates(source))
    units = make_shards(source, out, step, workers)
    before, kept = built.statistics, units.statistics
    sizes = ("records", "words", "pieces", "unknown_pieces", "entities", "further")
    statistics = replace(
        before, dropped={**before.dropped, **kept.dropped}, **{name: getattr(kept, name) for name in sizes}
    )
    return replace(
        built,
        shardlist=units.shards,
        statistics=statistics,
        entity_types=units.entity_types(tuple(built.entity_types)),
        relation_types=units.relation_types({code: one.name for code, one in built.relation_types.items()}),
    )
