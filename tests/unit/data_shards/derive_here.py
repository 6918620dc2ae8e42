"""Datasets made from others in this process, without Ray."""

from unittest.mock import patch

from data_shards.pipeline import derive
from data_shards.pipeline.unit_pipeline import Units


def derived_here(*, backwards: bool = False):
    """Within this context, `derive` makes one shard after the other here, on request the last one first."""

    def make(plan, shards, workers):
        order = range(shards)[::-1] if backwards else range(shards)
        made = [derive.derive_shard(plan, shard)[0] for shard in order]
        return Units(sorted(made, key=lambda unit: unit.unit_index), 1, 0)

    return patch.object(derive, "_run_pipeline", make)
