"""What `spe pretrain` says of this machine before it starts."""

from dataclasses import replace

import pytest

from data_shards.errors import UserError
from launcher.pretrain import _check_machine
from launcher.recipe_arguments import RECIPES
from spe_dist.engine.machine import Machine
from spe_dist.recipe import load_recipe


def told(capsys, machine, **cluster):
    config = load_recipe(RECIPES / "debug.yaml")
    _check_machine(replace(config, cluster=replace(config.cluster, **cluster)), machine)
    return capsys.readouterr().out


def test_nothing_if_all_is_used(capsys):
    assert told(capsys, Machine(8, gpus=0, gpu_devices=0)) == ""
    assert told(capsys, Machine(8, gpus=2, gpu_devices=2), gpus_per_worker=1) == ""


def test_a_gpu_that_is_not_used_with_the_setting_that_uses_it(capsys):
    (line,) = told(capsys, Machine(8, gpus=4, gpu_devices=4)).splitlines()
    assert line == (
        "note: the run uses none of the 4 GPUs of this machine: --cluster.gpus-per-worker 1 --cluster.workers 4 "
        "--train.precision bf16 uses all"
    )


def test_a_gpu_that_is_asked_for_and_missing():
    with pytest.raises(UserError, match="2 workers with a GPU each, but torch can use 1 GPU of this machine"):
        told(None, Machine(8, gpus=1, gpu_devices=1), gpus_per_worker=1)
