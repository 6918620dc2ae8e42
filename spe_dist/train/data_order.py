"""Who computes what, and in which order the data comes: the parts of a run that need no model."""

from __future__ import annotations

from pathlib import Path

from data_shards.shards.manifest import Manifest
from data_shards.shards.order import Order
from data_shards.shards.reader import ShardReader
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan


def open_reader(config: Config, *, lanes: int | None = None) -> ShardReader:
    """The run's dataset, with room for the shards of all lanes that are read.

    Every lane reads a stream of its own, out of windows; a window may begin in one shard and end in another.

    Args:
        config: the run.
        lanes: how many lanes are read; all if not given.

    Raises:
        UserError: there is no such dataset.
    """
    cache = Path(config.data.cache) if config.data.cache else None
    reader = ShardReader(config.data.shards, cache_dir=cache)
    mean_records = max(1, len(reader) // max(1, len(reader.manifest.shardlist)))
    reader.max_open_shards = (lanes or config.batch.lanes) * (2 + config.data.shuffle_window // mean_records)
    return reader


def build_plan(config: Config, world_size: int) -> BatchPlan:
    """Who computes which lanes.

    Raises:
        UserError: more ranks than lanes.
    """
    batch = config.batch
    return BatchPlan(batch.lanes, batch.lane_size, batch.lanes_per_forward, world_size, batch.pieces_per_forward)


def build_order(config: Config, manifest: Manifest) -> Order:
    """Which records make up which batch.

    Raises:
        UserError: less than one global batch of data.
    """
    return Order(
        manifest.shard_records,
        lanes=config.batch.lanes,
        lane_size=config.batch.lane_size,
        seed=config.run.seed,
        window=config.data.shuffle_window,
        fraction=config.data.fraction,
        held_out=config.data.held_out,
    )
