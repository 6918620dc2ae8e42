"""What is refused before any rank starts."""

import pytest
import yaml

from data_shards.errors import UserError
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from spe_dist.train.dry_run import check_run
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("compute", {"compile": True}, "compute.compile does not work with train.zero_stage 3"),
        ("kernels", {"span_pool": "cuda"}, "kernels.span_pool is cuda, but this run computes on cpu"),
        ("optimizer", {"warmup_steps": 1000}, "optimizer.warmup_steps is 1000, more than train.steps 400"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path, section, changes, message):
    write_dataset(tmp_path / "shards")
    values = yaml.safe_load(config_yaml(load_recipe(ROOT / "launcher/recipes/debug.yaml")))
    values["data"]["shards"] = str(tmp_path / "shards")
    values["train"]["zero_stage"] = 3
    values[section] |= changes
    with pytest.raises(UserError, match=message):
        check_run(config_from_values(values, source="test"), world_size=1)
