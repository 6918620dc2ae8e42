from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from data_shards.errors import UserError
from spe_dist.benchmarks import loader
from spe_dist.recipe import load_recipe
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset


def test_speed_and_parts_of_the_loader(tmp_path: Path) -> None:
    write_dataset(tmp_path / "shards")
    config = load_recipe(ROOT / "launcher" / "recipes" / "debug.yaml")
    config = replace(config, data=replace(config.data, shards=str(tmp_path / "shards")))
    with patch.object(loader, "_STEPS", 3):
        (timed,) = loader.measure_loader(config, repeats=4)
        assert timed.variant == "32 records a forward, one process"
        assert len(timed.seconds) == 4 and min(timed.seconds) > 0
        assert timed.notes["records/s"] == pytest.approx(64 / timed.median)
        assert all(str(timed.notes[part]).endswith("%") for part in loader.PARTS)
        (tmp_path / "shards" / "00-000000.tar").unlink()
        with pytest.raises(UserError, match="cannot be read"):
            loader.measure_loader(config, repeats=1)
