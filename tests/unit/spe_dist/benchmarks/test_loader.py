from dataclasses import replace
from pathlib import Path

import pytest

from data_shards.errors import UserError
from spe_dist.benchmarks.loader import PARTS, measure_loader
from spe_dist.recipe import load_recipe
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset


def test_speed_and_parts_of_the_loader(tmp_path: Path) -> None:
    write_dataset(tmp_path / "shards")
    config = load_recipe(ROOT / "launcher" / "recipes" / "debug.yaml")
    config = replace(config, data=replace(config.data, shards=str(tmp_path / "shards")))
    found = measure_loader(config, seconds=0.05)
    assert found["records_per_forward"] == 32
    assert found["records"] >= 64 and found["records"] % 64 == 0
    assert found["records_per_second"] > 0 and found["records_per_cpu_second"] > 0
    assert tuple(found["shares"]) == PARTS
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert min(found["shares"].values()) > 0
    (tmp_path / "shards" / "00-000000.tar").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        measure_loader(config, seconds=0.05)
