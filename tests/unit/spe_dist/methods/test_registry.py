"""What methods say of themselves."""

import subprocess
import sys

import pytest

from spe_dist.methods.registry import spec_of
from spe_dist.recipe import load_recipe
from tests.unit.spe_dist.tiny_run import ROOT

RECIPES = ROOT / "launcher" / "recipes"
CODE = """
import sys
from pathlib import Path
from spe_dist.methods.registry import spec_of
from spe_dist.recipe import load_recipe
spec_of(load_recipe(Path(sys.argv[1])))
sys.exit(", ".join({"torch", "transformers"} & sys.modules.keys()) or 0)
"""


@pytest.mark.parametrize("recipe", ["debug", "enpar_debug"])
def test_a_recipe_is_read_without_torch(recipe):
    path = RECIPES / f"{recipe}.yaml"
    done = subprocess.run([sys.executable, "-c", CODE, path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("recipe", ["debug", "enpar_debug", "spanbert_minilm_cpu"])
def test_panels_show_metrics_that_are_columns_and_every_loss_has_one(recipe):
    spec = spec_of(load_recipe(RECIPES / f"{recipe}.yaml"))
    columns = [column.metric for column in spec.columns]
    assert len(set(columns)) == len(columns)
    shown = {metric for panel in spec.panels for metric in (*panel.left, *panel.right)}
    assert shown <= set(columns)
    assert {metric for metric in columns if metric.endswith("_loss")} <= shown
