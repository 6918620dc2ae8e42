"""What `spe pretrain` says of this machine before it starts."""

from dataclasses import replace

import pytest

from data_shards.errors import UserError
from launcher.pretrain import _check_machine
from launcher.recipe_arguments import RECIPES
from launcher.recipe_choice import choose_recipe, with_chosen_recipe
from spe_dist.engine.machine import Machine
from spe_dist.recipe import load_recipe, read_values
from spe_dist.settings import flatten


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


@pytest.mark.parametrize(
    ("gpus", "hidden_size", "recipe"),
    [
        (0, None, ["debug"]),
        (1, None, ["debug"]),
        (0, 768, ["minilm_cpu"]),
        (1, 384, ["minilm_1gpu"]),
        (4, 384, ["minilm_1gpu"]),
        (1, 768, ["spe_wiki_1gpu"]),
        (4, 1024, ["spe_wiki", "--cluster.workers=4"]),
    ],
)
def test_auto_is_the_recipe_of_the_machine_and_the_encoder(gpus, hidden_size, recipe):
    arguments, line = choose_recipe(
        ["--run.name", "it", "--config", "auto", "--data.shards=s"], Machine(8, gpus, gpus), hidden_size=hidden_size
    )
    assert arguments == ["--config", *recipe, "--run.name", "it", "--data.shards=s"]
    assert line.startswith(f"recipe {' '.join(recipe)}: ")
    load_recipe(RECIPES / f"{recipe[0]}.yaml")


def test_workers_that_are_given_are_kept_and_other_recipes_too():
    given = ["--config=auto", "--cluster.workers", "2"]
    assert choose_recipe(given, Machine(8, 4, 4), hidden_size=768)[0] == ["--config", "spe_wiki", *given[1:]]
    assert with_chosen_recipe(["--config", "debug", "--run.name", "auto"]) == (
        ["--config", "debug", "--run.name", "auto"],
        None,
    )


@pytest.mark.parametrize("of_the_paper", ["spe_wiki", "enpar_wiki", "erica_wiki"])
def test_a_recipe_for_one_gpu_trains_what_the_papers_does(of_the_paper):
    here, there = (flatten(read_values(RECIPES / f"{name}.yaml")) for name in (f"{of_the_paper}_1gpu", of_the_paper))
    assert here.keys() == there.keys()
    assert {name for name in here if here[name] != there[name]} <= {
        *("run.name", "data.workers", "batch.lanes_per_forward", "cluster.workers"),
        *("train.zero_stage", "train.log_every", "train.checkpoint_every"),
    }
    assert (here["cluster.workers"], here["cluster.gpus_per_worker"], here["train.precision"]) == (1, 1, "bf16")
