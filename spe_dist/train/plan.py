"""Who computes what, and in which order the data comes: the parts of a run that need no model."""

from __future__ import annotations

from pathlib import Path

from data_shards.manifest import Manifest
from data_shards.order import Order
from data_shards.reader import ShardReader
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan


def open_reader(config: Config) -> ShardReader:
    """The run's dataset; every lane reads a stream of its own, so one shard is kept open for each.

    Raises:
        UserError: there is no such dataset.
    """
    cache = Path(config.data.cache) if config.data.cache else None
    return ShardReader(config.data.shards, cache_dir=cache, max_open_shards=config.batch.lanes + 2)


def build_plan(config: Config, world_size: int) -> BatchPlan:
    """Who computes which lanes.

    Raises:
        UserError: more ranks than lanes.
    """
    batch = config.batch
    return BatchPlan(batch.lanes, batch.lane_size, batch.lanes_per_forward, world_size)


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
    )
