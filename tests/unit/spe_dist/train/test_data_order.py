from dataclasses import replace

import pytest

from spe_dist.config import Config
from spe_dist.recipe import load_recipe
from spe_dist.train.data_order import build_order, open_reader
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

SHARDS = 24


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Four lanes, whose windows of 50 records are in two to four shards of 20 records."""
    folder = tmp_path_factory.mktemp("tiny") / "shards"
    write_dataset(folder, sentences=SHARDS * 20, shards=SHARDS)
    config = load_recipe(ROOT / "launcher" / "recipes" / "debug.yaml")
    batch = replace(config.batch, lanes=4, lane_size=2)
    return replace(config, batch=batch, data=replace(config.data, shards=str(folder), shuffle_window=50))


@pytest.mark.parametrize("lanes", [range(4), range(1, 3)])
def test_a_shard_is_decoded_once_for_each_lane_that_reads_it(
    config: Config, lanes: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_reader(config, lanes=len(lanes))
    order = build_order(config, reader.manifest)
    decode, decoded = reader.read_shard, []
    monkeypatch.setattr(reader, "read_shard", lambda index: decoded.append(index) or decode(index))
    for step in range(order.steps_per_epoch):
        reader.take(order.record_ids(step, lanes))
    assert len(decoded) <= SHARDS * len(lanes) / 4 + len(lanes) + 1
    assert len(reader._open) < SHARDS  # not by keeping everything


def test_all_lanes_are_read_if_nothing_is_said(config: Config) -> None:
    assert open_reader(config).max_open_shards == 2 * open_reader(config, lanes=2).max_open_shards
