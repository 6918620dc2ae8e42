"""Bytes on the wire and memory, predicted by formula, against what real ranks send and hold."""

import pytest
import yaml

from spe_dist.benchmarks.costs import count_costs, predict_costs
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

pytestmark = pytest.mark.distributed
CASES = {
    1: [(2, "bf16"), (3, "bf16")],
    2: [(1, "fp32"), (1, "bf16"), (2, "fp32"), (3, "bf16")],
    4: [(1, "bf16"), (2, "bf16"), (3, "fp32")],
}
BATCH = {"lanes": 5, "lane_size": 2, "lanes_per_forward": 1}  # 4 ranks do not share 5 lanes equally


def configure(folder, recipe, stage, precision, world_size):
    values = yaml.safe_load(config_yaml(load_recipe(ROOT / f"launcher/recipes/{recipe}.yaml")))
    sections = {
        "run": {"name": f"{stage}-{precision}-{world_size}", "folder": str(folder / "runs")},
        "data": {"shards": str(folder / "shards")},
        "batch": BATCH,
        "encoder": {"layers": 1, "hidden_size": 64, "intermediate_size": 128},
        "train": {"zero_stage": stage, "precision": precision},
    }
    if recipe == "debug":
        sections["cspo"] = {"queue_size": 1024}
    for section, settings in sections.items():
        values[section] = values[section] | settings
    return config_from_values(values, source="test")


def measure(configs):
    return [count_costs(config) for config in configs]


@pytest.mark.parametrize(("recipe", "world_size"), [("debug", 1), ("debug", 2), ("debug", 4), ("enpar_debug", 2)])
def test_bytes_are_predicted_exactly_and_memory_to_a_tenth(tmp_path, recipe, world_size):
    write_dataset(tmp_path / "shards", entities=recipe == "enpar_debug")
    configs = [configure(tmp_path, recipe, stage, precision, world_size) for stage, precision in CASES[world_size]]
    for rank in run_ranks(measure, world_size, configs):
        for case, config, counted in zip(CASES[world_size], configs, rank, strict=True):
            predicted = predict_costs(config, world_size)
            assert counted.sent == predicted.sent, case
            assert counted.held == pytest.approx(predicted.held, rel=0.1), case
